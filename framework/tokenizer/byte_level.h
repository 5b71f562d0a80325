// Bytes as printable characters, the way byte-level vocabularies are written down (GPT-2, Radford et al. 2019): a byte
// that is a printable character of Latin-1 stands for itself, the others are U+0100 and on, in the order of the bytes.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace fourmi::byte_level {

/// Character of each byte.
const std::array<char32_t, 256>& characters();

/// Bytes as a vocabulary writes them.
std::string written(std::string_view bytes);

/// What a vocabulary's entry stands for; nothing if it holds a character that is no byte's.
std::optional<std::string> bytes_of(std::string_view written);

}  // namespace fourmi::byte_level
