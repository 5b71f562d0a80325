// What reader and writer of .idx files share (indexed.h tells the format).
#pragma once

#include <array>
#include <cstdint>

namespace fourmi::indexed_layout {

inline constexpr std::array<char, 9> magic{'M', 'M', 'I', 'D', 'I', 'D', 'X', '\0', '\0'};
inline constexpr std::int64_t header_bytes = 34;

}  // namespace fourmi::indexed_layout
