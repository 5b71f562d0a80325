// In place of kernels/cuda/largest_magnitude.h: by the definition.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace fourmi::cuda {

inline float magnitude_max(float a, float b) {
  return std::isnan(a) || std::fabs(a) > std::fabs(b) ? std::fabs(a) : std::fabs(b);
}

inline std::uint32_t largest_bits_of(const float (&v)[8]) {
  float largest = magnitude_max(v[0], v[1]);
  for (int k = 2; k < 8; ++k) largest = magnitude_max(largest, v[k]);
  return std::bit_cast<std::uint32_t>(largest);
}

}  // namespace fourmi::cuda
