// Elementary functions as the card's own instructions compute them, for what is rounded to bf16 or e4m3 anyway. They
// are functions of their argument alone, so a card always gives the same bits, but not the CPU's bits. For .cu files;
// the emulated card has its own (tests/cuda_on_cpu/kernels/cuda).
#pragma once

namespace fourmi::cuda {

/// 2^x to 2^-22 of it; denormals, as x and as result, count as zeros. 0 and infinity at the infinities.
__device__ inline float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// 1 / x to a unit in the last place; denormals, as x and as result, count as zeros.
__device__ inline float fast_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace fourmi::cuda
