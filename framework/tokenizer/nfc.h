// Unicode's normalization forms.
#pragma once

#include <string>
#include <string_view>

namespace fourmi {

/// True where form C can change nothing: no character from U+0300 on, and well-formed. A quick look, not a full check.
bool surely_nfc(std::string_view text);

enum class NormalForm { c, d, kc, kd };
/// Of well-formed UTF-8.
std::string normal_form(std::string_view text, NormalForm form);
std::string nfc(std::string_view text);

}  // namespace fourmi
