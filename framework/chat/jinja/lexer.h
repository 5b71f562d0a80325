// A template as tokens: text between tags, and the words inside of them. White space around tags goes as
// transformers has it: trim_blocks, lstrip_blocks, and - and + at a tag's ends.
#pragma once

#include <string>
#include <vector>

namespace fourmi::jinja {

struct Token {
  enum class Kind { text, output_begin, output_end, tag_begin, tag_end, name, string, integer, real, symbol, end };
  Kind kind = Kind::end;
  std::string text{};
  int line = 0;
};

/// Throws Error(input) at `place:line`.
std::vector<Token> tokens_of(const std::string& text, const std::string& place);

}  // namespace fourmi::jinja
