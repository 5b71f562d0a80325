#include "framework/recipe/license.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>

#include "framework/recipe/field.h"
#include "framework/recipe/policy.h"
#include "framework/recipe/scalar.h"

namespace fourmi {
namespace {

constexpr std::string_view custom_prefix = "LicenseRef-";
constexpr std::size_t most_letters = 1000;

bool is_word_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
         c == '+' || c == ':';
}

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == ' ') {
      ++at;
      continue;
    }
    std::size_t end = at + 1;
    if (is_word_letter(text[at]))
      while (end < text.size() && is_word_letter(text[end])) ++end;
    words.push_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

bool is_custom(std::string_view word) {
  if (!word.starts_with(custom_prefix) || word.size() == custom_prefix.size()) return false;
  return std::all_of(word.begin(), word.end(), [](char c) { return is_word_letter(c) && c != '+' && c != ':'; });
}

const LicenseId* find_id(std::string_view word) {
  const auto ids = license_ids();
  const auto found = std::find_if(ids.begin(), ids.end(), [&](const LicenseId& i) { return i.id == word; });
  return found == ids.end() ? nullptr : &*found;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

template <class Names>
std::string did_you_mean(std::string_view word, const Names& names) {
  std::vector<std::string> lowered;
  for (const auto& name : names) {
    lowered.push_back(lower(name));
    if (lowered.back() == lower(word)) return fmt::format("Did you mean `{}`?", name);
  }
  // Old spellings without -only or -or-later, which SPDX no longer allows, and those that only lack a version.
  std::string plain = lower(word);
  while (plain.ends_with('+')) plain.pop_back();
  if (plain.size() >= 3) {
    std::string longer;
    for (std::size_t i = 0; i < lowered.size(); ++i)
      if (lowered[i].starts_with(plain + "-")) longer += fmt::format("{}`{}`", longer.empty() ? "" : ", ", names[i]);
    const bool several = longer.find(',') != std::string::npos;
    if (!longer.empty()) return fmt::format("Did you mean {}{}?", several ? "one of " : "", longer);
  }
  const std::string close = recipe::closest(lower(word), lowered);
  for (std::size_t i = 0; i < lowered.size(); ++i)
    if (!close.empty() && lowered[i] == close) return fmt::format("Did you mean `{}`?", names[i]);
  return "Terms that the list lacks are written LicenseRef-NAME";
}

std::vector<std::string_view> id_names() {
  std::vector<std::string_view> names;
  for (const LicenseId& i : license_ids()) names.push_back(i.id);
  return names;
}

/// One pass over an expression: finds problems, and evaluates `term` over AND (all) and OR (any).
class Parser {
 public:
  using Term = std::function<bool(std::string_view id)>;
  Parser(std::string_view text, Term term) : words_(words_of(text)), term_(std::move(term)) {}

  bool run() {
    const bool value = any();
    if (!problem_ && at_ < words_.size()) fail("AND, OR or the end");
    return value;
  }
  const std::optional<LicenseProblem>& problem() const { return problem_; }

 private:
  std::string_view here() const { return at_ < words_.size() ? words_[at_] : std::string_view(); }
  bool take(std::string_view word) {
    if (problem_ || here() != word) return false;
    ++at_;
    return true;
  }
  void fail(const std::string& expected, std::string remedy = {}) {
    if (problem_) return;
    problem_ = {at_ < words_.size() ? fmt::format("found `{}`", recipe::shown(here())) : "found its end",
                "expected " + expected, std::move(remedy)};
  }

  bool any() {
    bool value = all();
    while (take("OR")) value |= all();
    return value;
  }
  bool all() {
    bool value = one();
    while (take("AND")) value &= one();
    return value;
  }
  bool one() {
    if (problem_) return true;
    if (take("(")) {
      const bool value = ++depth_ > 32 ? (fail("fewer brackets"), true) : any();
      if (!take(")")) fail("a closing bracket");
      --depth_;
      return value;
    }
    std::string_view word = here();
    const bool later = word.ends_with('+');
    if (later) word.remove_suffix(1);
    if (is_custom(here()) || find_id(word)) {
      ++at_;
    } else {
      fail("an SPDX licence identifier or LicenseRef-...", did_you_mean(word, id_names()));
      return true;
    }
    const bool value = term_(word);
    if (take("WITH")) {
      const auto known = license_exceptions();
      if (std::find(known.begin(), known.end(), here()) == known.end())
        fail("an SPDX exception identifier", at_ < words_.size() ? did_you_mean(here(), known) : "");
      ++at_;
    }
    return value;
  }

  std::vector<std::string_view> words_;
  Term term_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::optional<LicenseProblem> problem_;
};

unsigned tags_of(std::string_view id) {
  if (is_custom(id)) return license_custom;
  const LicenseId* known = find_id(id);
  return known ? known->tags : 0;
}

bool names(std::string_view denied, std::string_view id) {
  if (denied == id) return true;
  for (const LicenseTagName& t : license_tags())
    if (t.name == denied) return (tags_of(id) & t.tag) != 0;
  return false;
}

}  // namespace

std::span<const LicenseTagName> license_tags() {
  static constexpr LicenseTagName tags[] = {{"non-commercial", license_non_commercial},
                                            {"no-derivatives", license_no_derivatives},
                                            {"share-alike", license_share_alike},
                                            {"custom", license_custom}};
  return tags;
}

LicenseProblem check_license(std::string_view expression) {
  if (expression.size() > most_letters)
    return {fmt::format("found {} letters", expression.size()), fmt::format("expected at most {}", most_letters), ""};
  Parser parser(expression, [](std::string_view) { return true; });
  parser.run();
  return parser.problem().value_or(LicenseProblem{});
}

LicenseProblem check_denied_word(std::string_view word) {
  if (is_custom(word) || find_id(word) || word == no_distill) return {};
  std::vector<std::string_view> known = id_names();
  known.push_back(no_distill);
  for (const LicenseTagName& t : license_tags()) {
    if (t.name == word) return {};
    known.push_back(t.name);
  }
  return {fmt::format("found `{}`", recipe::shown(word)),
          "expected an SPDX licence identifier, LicenseRef-..., or one of `non-commercial`, `no-derivatives`, "
          "`share-alike`, `custom`, `no-distill`",
          did_you_mean(word, known)};
}

std::string denied_by(std::string_view expression, std::span<const std::string> denied) {
  std::string against;
  const bool free = Parser(expression, [&](std::string_view id) {
                      for (const std::string& word : denied)
                        if (names(word, id)) {
                          if (against.empty()) against = word;
                          return false;
                        }
                      return true;
                    }).run();
  return free ? std::string() : against;
}

}  // namespace fourmi
