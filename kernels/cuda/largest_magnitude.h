// The larger of two magnitudes by one instruction. For .cu files; the emulated card has its own
// (tests/cuda_on_cpu/kernels/cuda).
#pragma once

#include <cstdint>

namespace fourmi::cuda {

/// max(|a|, |b|); NaN where either is.
__device__ inline float magnitude_max(float a, float b) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(fabsf(a)), "f"(fabsf(b)));
  return larger;
}

/// The bits of the largest magnitude of eight values; those of a NaN if one is.
__device__ inline std::uint32_t largest_bits_of(const float (&v)[8]) {
  float largest = magnitude_max(v[0], v[1]);
#pragma unroll
  for (int k = 2; k < 8; ++k) largest = magnitude_max(largest, v[k]);
  return __float_as_uint(largest);
}

}  // namespace fourmi::cuda
