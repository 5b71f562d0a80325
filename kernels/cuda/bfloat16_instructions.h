// Rounding to bf16 by an instruction of the card, two at a time: what bfloat16 (kernels/numerics/bfloat16.h) does in
// seven integer instructions each. Equal bits but for one case: NaN becomes 0x7fff, its sign is lost. For .cu files;
// the emulated card has its own (tests/cuda_on_cpu/kernels/cuda).
#pragma once

#include <cstdint>

namespace fourmi::cuda {

/// Two floats as bf16, `low` in the low half: nearest even, overflow becomes infinity.
__device__ inline std::uint32_t bfloat16_of_pair(float low, float high) {
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

}  // namespace fourmi::cuda
