// One rounding from any float type to any other: nearest, ties to even. Only double to bfloat16 needs care, because a
// way over float would round twice.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "kernels/numerics/bfloat16.h"

namespace fourmi {

/// The float between x and zero (or x itself) with its last bit set if x is not representable ("round to odd"):
/// rounding it again to a type with at least two bits less equals rounding x directly.
constexpr float round_to_odd(double x) {
  const float nearest = static_cast<float>(x);
  const double back = static_cast<double>(nearest);
  if (back == x || x != x) return nearest;
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(nearest);
  const bool away = (back < 0 ? -back : back) > (x < 0 ? -x : x);
  return std::bit_cast<float>((away ? bits - 1 : bits) | 1u);
}

/// x as a To, rounded once.
template <class To, class From>
constexpr To round_to(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (std::is_same_v<To, bfloat16> && std::is_same_v<From, double>) {
    return bfloat16(round_to_odd(x));
  } else {
    return static_cast<To>(x);
  }
}

}  // namespace fourmi
