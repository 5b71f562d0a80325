#include "framework/recipe/obligation.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "framework/recipe/field.h"
#include "framework/recipe/scalar.h"

namespace fourmi {
namespace {

constexpr std::string_view name_prefix = "name-prefix", notice = "notice";

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

/// What stands before the colon, if that is a word and no part of a sentence or an address.
std::string_view form_of(std::string_view words) {
  const std::size_t colon = words.find(':');
  if (colon == std::string_view::npos || words.substr(colon).starts_with("://")) return {};
  const std::string_view form = words.substr(0, colon);
  return form.find(' ') == std::string_view::npos ? form : std::string_view();
}

}  // namespace

Obligation parse_obligation(std::string_view words) {
  const std::string_view form = form_of(words);
  const bool binds = form == name_prefix || form == notice;
  if (!binds) return {Obligation::Kind::other, std::string(words)};
  return {form == notice ? Obligation::Kind::notice : Obligation::Kind::name_prefix,
          std::string(trimmed(words.substr(form.size() + 1)))};
}

ObligationProblem check_obligation(std::string_view words) {
  const std::string shown = recipe::shown(std::string(words));
  const std::string_view form = form_of(words);
  const Obligation obligation = parse_obligation(words);
  if (obligation.kind == Obligation::Kind::other) {
    const std::vector<std::string> forms{std::string(name_prefix), std::string(notice)};
    std::string lower(form);
    for (char& c : lower) c = c == '_' ? '-' : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    const std::string close = form.empty() ? "" : recipe::closest(lower, forms);
    if (close.empty()) return {};
    return {fmt::format("found the obligation `{}`, which binds nothing", shown),
            "expected `name-prefix:NAME`, `notice:TEXT`, or a sentence", fmt::format("Did you mean `{}:`?", close)};
  }
  if (obligation.text.empty())
    return {fmt::format("found the obligation `{}` without a text", shown), "expected one after the colon", ""};
  if (obligation.kind == Obligation::Kind::name_prefix && obligation.text.find('/') != std::string::npos)
    return {fmt::format("found the obligation `{}`", shown), "expected the beginning of a folder's name, without `/`",
            ""};
  return {};
}

std::string export_name(const std::filesystem::path& path) {
  const std::filesystem::path plain = path.lexically_normal();
  return (plain.has_filename() ? plain : plain.parent_path()).filename().string();
}

std::string name_with(std::span<const std::string> prefixes, const std::string& name) {
  std::string longest;
  for (const std::string& prefix : prefixes)
    if (prefix.size() > longest.size()) longest = prefix;
  for (const std::string& prefix : prefixes)
    if (!longest.starts_with(prefix)) return {};
  return name.starts_with(longest) ? name : longest + "-" + name;
}

}  // namespace fourmi
