// Regular expressions of pre-tokenizers, run by PCRE2 with its compiler to machine code. They are written for
// Oniguruma, and here they must mean the same: what the two engines read differently is translated where that can be
// done exactly, and else refused by name (regex_translate.cpp).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace fourmi {

/// Half-open range of bytes.
struct TextSpan {
  std::size_t begin = 0, end = 0;
  bool operator==(const TextSpan&) const = default;
};

/// Immutable: any number of threads may match with one, each with a matcher of its own.
class Regex {
 public:
  /// Throws Error(input) at `place` for a pattern that cannot be taken over exactly, or that matches nothing at all.
  Regex(const std::string& pattern, const std::string& place);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

 private:
  friend class Matcher;
  struct Code;
  std::unique_ptr<Code> code_;
};

/// One thread's scratch for matching.
class Matcher {
 public:
  Matcher();
  ~Matcher();
  Matcher(Matcher&&) noexcept;
  /// The first match in text[from, end); text is well-formed UTF-8 and `from` a character's beginning. False: none.
  bool find(const Regex& regex, std::string_view text, std::size_t from, TextSpan& match);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The pattern in PCRE2's words.
std::string translate_pattern(std::string_view pattern, const std::string& place);

}  // namespace fourmi
