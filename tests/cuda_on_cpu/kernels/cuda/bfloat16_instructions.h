// In place of kernels/cuda/bfloat16_instructions.h: by the definition; a NaN loses its sign as it does there.
#pragma once

#include "kernels/numerics/bfloat16.h"

namespace fourmi::cuda {

inline std::uint32_t bfloat16_of_pair(float low, float high) {
  const auto one = [](float x) { return x != x ? std::uint32_t{0x7fff} : std::uint32_t{bfloat16(x).bits}; };
  return one(low) | one(high) << 16;
}

}  // namespace fourmi::cuda
