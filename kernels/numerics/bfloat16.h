// bfloat16: the upper half of an IEEE float. Conversions are ours so that every path rounds alike (nearest, ties to
// even).
#pragma once

#include <bit>
#include <cstdint>

namespace fourmi {

struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;
  explicit constexpr bfloat16(float x) : bits(round(x)) {}
  static constexpr bfloat16 from_bits(std::uint16_t b) {
    bfloat16 r;
    r.bits = b;
    return r;
  }
  explicit constexpr operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
  explicit constexpr operator double() const { return static_cast<double>(static_cast<float>(*this)); }

 private:
  /// Nearest, ties to even; NaN stays NaN (quiet, sign kept); overflow becomes infinity.
  static constexpr std::uint16_t round(float x) {
    const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    const std::uint32_t quiet_nan = (u >> 16) | 0x40u;
    return static_cast<std::uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded);
  }
};
static_assert(sizeof(bfloat16) == 2);

}  // namespace fourmi
