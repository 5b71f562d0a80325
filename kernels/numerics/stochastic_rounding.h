// Stochastic rounding: up or down with the probabilities that make the mean exact. The random bits are a pure function
// of a key and the element's index, so that no layout, order or restart changes a result.
#pragma once

#include "kernels/numerics/float8.h"
#include "kernels/numerics/random.h"

namespace fourmi {

/// x as a To, rounded away from zero with the probability of the fraction cut off, for uniform `random`. Values of To
/// stay; magnitudes above the largest of float8 formats saturate; NaN stays NaN.
template <class To>
constexpr To round_stochastically(float x, std::uint32_t random) {
  return To::from_bits(To::Format::round(x, random));
}
/// Above the largest finite bfloat16 the neighbour is infinity.
template <>
constexpr bfloat16 round_stochastically<bfloat16>(float x, std::uint32_t random) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  if ((u & 0x7fffffffu) >= 0x7f800000u) return bfloat16(x);
  return bfloat16::from_bits(static_cast<std::uint16_t>((u + (random >> 16)) >> 16));
}

/// The same with the random bits of element `index` (the upper half of random_bits).
template <class To>
To round_stochastically(float x, RandomKey key, std::uint64_t index) {
  return round_stochastically<To>(x, static_cast<std::uint32_t>(random_bits(key, index) >> 32));
}

}  // namespace fourmi
