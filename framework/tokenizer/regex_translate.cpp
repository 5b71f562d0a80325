// Patterns for Oniguruma (Ruby's syntax, Unicode) in PCRE2's words. Taken over: what the known byte-level tokenizers
// use. Refused: what the engines read differently, and what neither needs here.
//   \s \S     by the property White_Space: PCRE2's own \s also has U+180E
//   \w \W     letters, marks, decimal digits, connector punctuation: PCRE2 10.42's own \w has neither marks nor these
//   \v        one character (PCRE2: a class)
//   \p{Han}   by script; PCRE2's own also takes characters that several scripts share
//   [a&&[^b]] intersections of sets, which PCRE2 would take for characters without a word: looks ahead before a set
//   ^ $       the beginning and end of a line, always
//   [[]]      other nested sets are refused, and so are
//   {n}+ {n}? \b ...   which mean different things
#include <fmt/format.h>

#include <cctype>

#include "framework/tokenizer/regex.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& place) : in_(pattern), place_(place) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        escape(false);
      } else if (c == '[') {
        set();
      } else if (c == '(') {
        group();
      } else if (c == '{') {
        repeat();
      } else if (c == '^' || c == '$') {
        replace(1, c == '^' ? "(?m:^)" : "(?m:$)");
      } else if (c == ']') {
        refuse("]");
      } else {
        copy(1);
      }
    }
    return out_;
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw Error(
        ExitStatus::input, place_,
        fmt::format("'{}' at character {} of the pattern {}, only what Oniguruma and PCRE2 read alike is supported",
                    what, at_, in_));
  }
  bool follows(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  void copy(std::size_t count) {
    out_ += in_.substr(at_, count);
    at_ += count;
  }
  void replace(std::size_t count, std::string_view with) {
    out_ += with;
    at_ += count;
  }

  void group() {
    for (const char* opening : {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"})
      if (follows(opening)) return copy(std::string_view(opening).size());
    if (follows("(?") || follows("(*")) refuse(in_.substr(at_, 3));
    copy(1);
  }

  void repeat() {
    std::size_t end = at_ + 1;
    const auto digits = [&] {
      const std::size_t begin = end;
      while (end < in_.size() && std::isdigit(static_cast<unsigned char>(in_[end]))) ++end;
      return end > begin;
    };
    bool good = digits();
    if (good && end < in_.size() && in_[end] == ',') {
      ++end;
      digits();
    }
    good = good && end < in_.size() && in_[end] == '}';
    const std::size_t length = end + 1 - at_;
    if (!good) refuse("{");
    if (end + 1 < in_.size() && (in_[end + 1] == '+' || in_[end + 1] == '?' || in_[end + 1] == '*'))
      refuse(in_.substr(at_, length + 1));
    copy(length);
  }

  /// [a&&b&&c] is any of a where b and c are any of theirs: (?:(?=[b])(?=[c])[a]).
  void set() {
    const std::size_t begin = out_.size();
    copy(1);
    const bool negated = follows("^");
    if (negated) copy(1);
    if (follows("]")) refuse("]");
    elements();
    std::string first = out_.substr(begin) + "]", conditions;
    while (follows("&&")) {
      if (negated) refuse("[^...&&");
      at_ += 2;
      out_.resize(begin);
      if (follows("[")) {
        copy(1);
        if (follows("^")) copy(1);
        if (follows("]")) refuse("]");
        elements();
        if (follows("&&")) refuse("&&");
        copy(1);
      } else {
        out_ += "[";
        if (follows("^") || follows("]") || follows("&")) refuse(in_.substr(at_, 1));
        elements();
        out_ += "]";
      }
      conditions += fmt::format("(?={})", out_.substr(begin));
      if (!follows("&&") && !follows("]")) refuse(in_.substr(at_, 1));
    }
    ++at_;
    out_.resize(begin);
    out_ += conditions.empty() ? first : fmt::format("(?:{}{})", conditions, first);
  }

  /// Up to the ] or && that ends them.
  void elements() {
    while (at_ < in_.size() && in_[at_] != ']' && !follows("&&")) {
      if (in_[at_] == '\\') {
        escape(true);
      } else if (in_[at_] == '[') {
        refuse(in_.substr(at_, 2));
      } else {
        copy(1);
      }
    }
    if (at_ == in_.size()) refuse("[ without ]");
  }

  void escape(bool in_set) {
    if (at_ + 1 == in_.size()) refuse("\\");
    constexpr std::string_view word = "\\p{L}\\p{M}\\p{Nd}\\p{Pc}";
    switch (const char c = in_[at_ + 1]) {
      case 's':
        return replace(2, "\\p{White_Space}");
      case 'S':
        return replace(2, "\\P{White_Space}");
      case 'd':
        return replace(2, "\\p{Nd}");
      case 'D':
        return replace(2, "\\P{Nd}");
      case 'v':
        return replace(2, "\\x0b");
      case 'w':
        return replace(2, in_set ? std::string(word) : fmt::format("[{}]", word));
      case 'W':
        if (in_set) refuse("\\W");
        return replace(2, fmt::format("[^{}]", word));
      case 'p':
      case 'P':
        return property();
      case 'n':
      case 'r':
      case 't':
      case 'f':
        return copy(2);
      case 'u':
        return code_point();
      case 'x':
        if (follows("\\x{") && in_.find('}', at_) != std::string_view::npos) return copy(in_.find('}', at_) + 1 - at_);
        if (at_ + 3 < in_.size() && in_[at_ + 2] < '8' && is_hex(at_ + 2) && is_hex(at_ + 3)) return copy(4);
        refuse("\\x");
      default:
        if (!std::ispunct(static_cast<unsigned char>(c)) && c != ' ') refuse(in_.substr(at_, 2));
        return copy(2);
    }
  }
  bool is_hex(std::size_t i) const { return i < in_.size() && std::isxdigit(static_cast<unsigned char>(in_[i])); }

  void code_point() {
    for (std::size_t i = 2; i < 6; ++i)
      if (!is_hex(at_ + i)) refuse("\\u");
    replace(6, fmt::format("\\x{{{}}}", in_.substr(at_ + 2, 4)));
  }

  void property() {
    const std::size_t end = in_.find('}', at_);
    if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{' || end == std::string_view::npos) refuse(in_.substr(at_, 3));
    const std::string_view name = in_.substr(at_ + 3, end - at_ - 3);
    for (const char* script : {"Han", "Hiragana", "Katakana", "Hangul", "Latin", "Greek", "Cyrillic", "Arabic",
                               "Hebrew", "Thai", "Devanagari", "Bopomofo"})
      if (name == script) return replace(end + 1 - at_, fmt::format("\\{}{{sc:{}}}", in_[at_ + 1], name));
    constexpr std::string_view categories = "CLMNPSZ";
    const bool category = (name.size() == 1 || name.size() == 2) && categories.find(name[0]) != std::string_view::npos;
    if (!category) refuse(in_.substr(at_, end + 1 - at_));
    copy(end + 1 - at_);
  }

  std::string_view in_;
  const std::string& place_;
  std::size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string translate_pattern(std::string_view pattern, const std::string& place) {
  return Translator(pattern, place).run();
}

}  // namespace fourmi
