// Unicode's normalization form C.
#pragma once

#include <string>
#include <string_view>

namespace fourmi {

/// True where nothing can change: no character from U+0300 on, and well-formed. A quick look, not a full check.
bool surely_nfc(std::string_view text);

/// Of well-formed UTF-8.
std::string nfc(std::string_view text);

}  // namespace fourmi
