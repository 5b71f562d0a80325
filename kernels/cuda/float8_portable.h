// Conversions of e4m3 two at a time by integer instructions: equal to those of float8_instructions.h to the bit, for
// cards before compute capability 8.9, which have none, and for the emulated card.
#pragma once

#include <cstdint>

#include "kernels/numerics/float8.h"

namespace fourmi::cuda::portable {

/// Two floats as e4m3, `low` in the low byte: float8_e4m3's rounding, but NaN is 0x7f whatever its sign.
constexpr std::uint32_t e4m3_of_pair(float low, float high) {
  const auto bits = [](float x) { return x != x ? std::uint32_t{0x7f} : std::uint32_t{float8_e4m3(x).bits}; };
  return bits(low) | bits(high) << 8;
}

/// The values of the two low bytes. NaN stays one.
constexpr void pair_of_e4m3(std::uint32_t pair, float& low, float& high) {
  low = static_cast<float>(float8_e4m3::from_bits(static_cast<std::uint8_t>(pair)));
  high = static_cast<float>(float8_e4m3::from_bits(static_cast<std::uint8_t>(pair >> 8)));
}

}  // namespace fourmi::cuda::portable
