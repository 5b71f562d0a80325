// UTF-8 as the standard has it: shortest forms only, no surrogates, nothing beyond U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace fourmi::utf8 {

/// Bytes of the well-formed character that `text` begins with; 0 if it begins with none.
std::size_t character(std::string_view text);
/// Bytes of the longest prefix that is well-formed.
std::size_t valid_prefix(std::string_view text);
/// Bytes before the first well-formed character; all of them if there is none.
std::size_t invalid_prefix(std::string_view text);

/// The code point of a well-formed character.
char32_t code_point(std::string_view character);
void append(std::string& text, char32_t code_point);

/// Unicode's White_Space.
bool is_white_space(char32_t c);

}  // namespace fourmi::utf8
