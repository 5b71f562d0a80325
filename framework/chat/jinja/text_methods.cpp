#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "framework/chat/jinja/operations.h"

namespace fourmi::jinja {
namespace {

/// Upper and lower case as far as letters are ASCII's: what other letters become is a matter of tables that are not
/// here.
std::string cased(const std::string& text, const std::string& how) {
  std::string out = text;
  bool word = false;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto c = static_cast<unsigned char>(out[i]);
    if (c >= 0x80) throw fmt::format("{} of a text with other letters than ASCII's", how);
    const bool upper = how == "upper" || (how == "title" && !word) || (how == "capitalize" && i == 0);
    out[i] = static_cast<char>(upper ? std::toupper(c) : std::tolower(c));
    word = std::isalpha(c) != 0;
  }
  return out;
}

List split(const std::string& text, const Value& by, std::int64_t most, bool from_right) {
  List out;
  if (by.undefined() || by.none()) {
    if (from_right && most >= 0) throw std::string("rsplit() at white space with a count");
    std::string word;
    const auto all = characters(text);
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (is_space(all[i])) {
        if (!word.empty()) out.push_back(std::exchange(word, {}));
        continue;
      }
      if (word.empty() && most >= 0 && static_cast<std::int64_t>(out.size()) == most) {
        std::string rest;
        for (; i < all.size(); ++i) rest += all[i];
        out.push_back(stripped(rest, Undefined{}, false, true));
        return out;
      }
      word += all[i];
    }
    if (!word.empty()) out.push_back(word);
    return out;
  }
  const std::string separator = need_text(by, "what a text is split at");
  if (separator.empty()) throw std::string("a split at nothing");
  std::vector<std::size_t> cuts;
  for (std::size_t at = 0; (at = text.find(separator, at)) != std::string::npos; at += separator.size())
    cuts.push_back(at);
  if (from_right && text.size() >= separator.size()) {  // where they overlap, the rightmost count
    cuts.clear();
    for (std::size_t at = text.rfind(separator); at != std::string::npos;
         at = at < separator.size() ? std::string::npos : text.rfind(separator, at - separator.size()))
      cuts.insert(cuts.begin(), at);
  }
  if (most >= 0 && static_cast<std::size_t>(most) < cuts.size()) {
    if (from_right)
      cuts.erase(cuts.begin(), cuts.end() - most);
    else
      cuts.resize(static_cast<std::size_t>(most));
  }
  check_entries(cuts.size() + 1);
  std::size_t begin = 0;
  for (const std::size_t cut : cuts) {
    out.push_back(text.substr(begin, cut - begin));
    begin = cut + separator.size();
  }
  out.push_back(text.substr(begin));
  return out;
}

List lines(const std::string& text) {
  List out;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\n' && text[i] != '\r') continue;
    out.push_back(text.substr(begin, i - begin));
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') ++i;
    begin = i + 1;
  }
  if (begin < text.size()) out.push_back(text.substr(begin));
  return out;
}

bool begins_or_ends(const std::string& text, const Value& with, bool begins) {
  if (with.list() != nullptr)
    return std::any_of(with.list()->begin(), with.list()->end(),
                       [&](const Value& v) { return begins_or_ends(text, v, begins); });
  const std::string what = need_text(with, "startswith or endswith");
  return begins ? text.starts_with(what) : text.ends_with(what);
}

bool all_of(const std::string& text, int (*is)(int)) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    if (static_cast<unsigned char>(c) >= 0x80) throw std::string("a question about other characters than ASCII's");
    return is(static_cast<unsigned char>(c)) != 0;
  });
}

std::int64_t place_of(const std::string& text, std::size_t byte) {
  if (byte == std::string::npos) return -1;
  return static_cast<std::int64_t>(characters(std::string_view(text).substr(0, byte)).size());
}

Value call(const std::string& text, const std::string& name, Arguments& arguments) {
  Given given(arguments, name);
  const auto done = [&](Value value) {
    given.end();
    return value;
  };
  if (name == "strip" || name == "lstrip" || name == "rstrip")
    return done(stripped(text, given.take("chars"), name != "rstrip", name != "lstrip"));
  if (name == "upper" || name == "lower" || name == "title" || name == "capitalize") return done(cased(text, name));
  if (name == "startswith" || name == "endswith")
    return done(begins_or_ends(text, given.need("prefix"), name == "startswith"));
  if (name == "split" || name == "rsplit") {
    const Value by = given.take("sep"), most = given.take("maxsplit");
    return done(split(text, by, most.undefined() ? -1 : need_integer(most, name), name == "rsplit"));
  }
  if (name == "splitlines") return done(lines(text));
  if (name == "replace") {
    const std::string what = need_text(given.need("old"), name), with = need_text(given.need("new"), name);
    const Value count = given.take("count");
    return done(replaced(text, what, with, count.undefined() ? -1 : need_integer(count, name)));
  }
  if (name == "find" || name == "rfind") {
    const std::string what = need_text(given.need("sub"), name);
    return done(place_of(text, name == "find" ? text.find(what) : text.rfind(what)));
  }
  if (name == "count") {
    const std::string what = need_text(given.need("sub"), name);
    if (what.empty()) return done(static_cast<std::int64_t>(characters(text).size() + 1));
    std::int64_t n = 0;
    for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++n;
    return done(n);
  }
  if (name == "removeprefix" || name == "removesuffix") {
    const std::string what = need_text(given.need("prefix"), name);
    if (name == "removeprefix") return done(text.starts_with(what) ? text.substr(what.size()) : text);
    return done(text.ends_with(what) ? text.substr(0, text.size() - what.size()) : text);
  }
  if (name == "join") {
    Arguments by{{text}, {}};
    const Value list = given.need("iterable");
    for (const Value& v : iterate(list)) need_text(v, "join");
    return done(filter("join", list, by));
  }
  if (name == "isdigit") return done(all_of(text, std::isdigit));
  if (name == "isalpha") return done(all_of(text, std::isalpha));
  if (name == "isalnum") return done(all_of(text, std::isalnum));
  if (name == "isspace") return done(all_of(text, std::isspace));
  if (name == "isupper") return done(text != cased(text, "lower") && text == cased(text, "upper"));
  return done(text != cased(text, "upper") && text == cased(text, "lower"));
}

}  // namespace

std::string stripped(const std::string& text, const Value& what, bool left, bool right) {
  const bool blank = what.undefined() || what.none();
  const std::string given = blank ? "" : need_text(what, "strip");
  const auto set = characters(given);
  const auto goes = [&](std::string_view c) {
    return blank ? is_space(c) : std::find(set.begin(), set.end(), c) != set.end();
  };
  const auto all = characters(text);
  std::size_t begin = 0, end = all.size();
  while (left && begin < end && goes(all[begin])) ++begin;
  while (right && end > begin && goes(all[end - 1])) --end;
  std::string out;
  for (std::size_t i = begin; i < end; ++i) out += all[i];
  return out;
}

std::string replaced(const std::string& text, const std::string& what, const std::string& with, std::int64_t count) {
  std::string out;
  if (what.empty()) {
    for (const std::string_view c : characters(text)) {
      if (count != 0) out += with;
      if (count > 0) --count;
      out += c;
      check_text(out.size());
    }
    return count != 0 ? out + with : out;
  }
  std::size_t begin = 0;
  for (std::size_t at; count != 0 && (at = text.find(what, begin)) != std::string::npos; begin = at + what.size()) {
    out.append(text, begin, at - begin).append(with);
    check_text(out.size());
    if (count > 0) --count;
  }
  return out.append(text, begin);
}

Value text_method(const std::string& text, const std::string& name) {
  static constexpr const char* names[] = {
      "strip", "lstrip",  "rstrip",     "upper",   "lower",   "title",   "capitalize", "startswith",   "endswith",
      "split", "rsplit",  "splitlines", "replace", "find",    "rfind",   "count",      "removeprefix", "removesuffix",
      "join",  "isdigit", "isalpha",    "isalnum", "isspace", "isupper", "islower"};
  if (std::find(std::begin(names), std::end(names), name) == std::end(names)) return Undefined{name};
  return Callable([text, name](Arguments& arguments) { return call(text, name, arguments); });
}

}  // namespace fourmi::jinja
