// Exact sums: a signed 128-bit integer whose unit is 2^-64. Integers add in any order to the same total, so a sum of
// partials has the same bits for every layout (docs/numerics.md "Lane sums and exact sums").
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/runtime/dtype.h"

namespace fourmi {

/// A value of this magnitude or more is refused: 2^20 values below it cannot wrap the sum.
inline constexpr double fixed128_limit = 0x1p40;

/// May x enter an exact sum? False for NaN, infinities and |x| >= 2^40.
constexpr bool fits_fixed128(double x) {
  return x > -fixed128_limit && x < fixed128_limit;
}

/// x * 2^64, rounded to the nearest integer, ties to even. x must fit. Exact for every f32 of magnitude 2^-41 or more.
constexpr int128 to_fixed128(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  const int exponent = static_cast<int>(bits >> 52 & 0x7ff);
  const uint128 significand = (bits & 0xfffffffffffffULL) | (exponent != 0 ? 1ULL << 52 : 0ULL);
  const int shift = exponent - (1075 - 64);  // |x| * 2^64 = significand * 2^shift; denormals are far below the unit
  uint128 magnitude = 0;
  if (shift >= 0) {
    magnitude = significand << shift;
  } else if (shift > -64) {
    const uint128 half = uint128{1} << (-shift - 1);
    const uint128 odd = significand >> -shift & 1;
    magnitude = (significand + (half - 1) + odd) >> -shift;
  }
  return bits >> 63 ? -static_cast<int128>(magnitude) : static_cast<int128>(magnitude);
}

namespace detail {
/// The `digits` leading bits of |total|, rounded to nearest with ties to even, and the power of two that scales them.
struct Fixed128Leading {
  std::uint64_t significand;
  int exponent;
};
constexpr Fixed128Leading leading_bits(uint128 magnitude, int digits) {
  const auto high = static_cast<std::uint64_t>(magnitude >> 64);
  const int length = high ? 128 - std::countl_zero(high) : 64 - std::countl_zero(static_cast<std::uint64_t>(magnitude));
  const int shift = length - digits;
  if (shift <= 0) return {static_cast<std::uint64_t>(magnitude), 0};
  const uint128 half = uint128{1} << (shift - 1);
  const uint128 rest = magnitude & ((half << 1) - 1);
  uint128 kept = magnitude >> shift;
  if (rest > half || (rest == half && (kept & 1))) ++kept;
  return {static_cast<std::uint64_t>(kept), shift};
}
}  // namespace detail

/// total * 2^-64 in one rounding to T (float or double), nearest, ties to even.
template <class T>
constexpr T from_fixed128(int128 total) {
  const uint128 magnitude = total < 0 ? -static_cast<uint128>(total) : static_cast<uint128>(total);
  const detail::Fixed128Leading leading = detail::leading_bits(magnitude, sizeof(T) == 4 ? 24 : 53);
  // Both factors and their product are exact: the product has at most 53 bits and lies between 2^-64 and 2^63.
  const double scale = std::bit_cast<double>(static_cast<std::uint64_t>(1023 - 64 + leading.exponent) << 52);
  const double value = static_cast<double>(leading.significand) * scale;
  return static_cast<T>(total < 0 ? -value : value);
}

}  // namespace fourmi
