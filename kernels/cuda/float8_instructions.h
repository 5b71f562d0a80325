// Conversions of e4m3 by instructions of the card, two at a time: what float8_e4m3 (kernels/numerics/float8.h) does in
// a dozen integer instructions each. Equal bits but for one case: NaN becomes 0x7f, its sign is lost. Cards before
// compute capability 8.9 do not have them: float8_portable.h. For .cu files; the emulated card has its own
// (tests/cuda_on_cpu/kernels/cuda).
#pragma once

#include <cstdint>

#include "kernels/cuda/float8_portable.h"

namespace fourmi::cuda {

// Halves: two f16 in a register. Every e4m3 is one.

/// Rounded to nearest even; NaN stays one.
__device__ inline std::uint32_t halves_of_floats(float low, float high) {
  std::uint32_t halves;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(halves) : "f"(high), "f"(low));
  return halves;
}
__device__ inline void floats_of_halves(std::uint32_t halves, float& low, float& high) {
  asm("{\n"
      ".reg .b16 first, second;\n"
      "mov.b32 {first, second}, %2;\n"
      "cvt.f32.f16 %0, first;\n"
      "cvt.f32.f16 %1, second;\n"
      "}"
      : "=f"(low), "=f"(high)
      : "r"(halves));
}

#if __CUDA_ARCH__ >= 890

/// Two floats as e4m3, `low` in the low byte: nearest even, magnitudes above 448 (infinity too) become 448.
__device__ inline std::uint32_t e4m3_of_pair(float low, float high) {
  std::uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
  return pair;
}

/// The values of the two low bytes.
__device__ inline void pair_of_e4m3(std::uint32_t pair, float& low, float& high) {
  asm("{\n"
      ".reg .b32 halves;\n"
      ".reg .b16 first, second;\n"
      "cvt.rn.f16x2.e4m3x2 halves, %2;\n"
      "mov.b32 {first, second}, halves;\n"
      "cvt.f32.f16 %0, first;\n"
      "cvt.f32.f16 %1, second;\n"
      "}"
      : "=f"(low), "=f"(high)
      : "h"(static_cast<std::uint16_t>(pair)));
}

/// Those as halves.
__device__ inline std::uint32_t halves_of_e4m3(std::uint32_t pair) {
  std::uint32_t halves;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<std::uint16_t>(pair)));
  return halves;
}
/// Rounded as by e4m3_of_pair.
__device__ inline std::uint32_t e4m3_of_halves(std::uint32_t halves) {
  std::uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f16x2 %0, %1;" : "=h"(pair) : "r"(halves));
  return pair;
}

#else

__device__ inline std::uint32_t e4m3_of_pair(float low, float high) {
  return portable::e4m3_of_pair(low, high);
}
__device__ inline void pair_of_e4m3(std::uint32_t pair, float& low, float& high) {
  portable::pair_of_e4m3(pair, low, high);
}
__device__ inline std::uint32_t halves_of_e4m3(std::uint32_t pair) {
  float low, high;
  pair_of_e4m3(pair, low, high);
  return halves_of_floats(low, high);  // exact
}
__device__ inline std::uint32_t e4m3_of_halves(std::uint32_t halves) {
  float low, high;
  floats_of_halves(halves, low, high);
  return e4m3_of_pair(low, high);
}

#endif

#if __CUDA_ARCH__ >= 890
/// e4m3_of_pair twice: the second conversion puts its bytes beside the first's.
__device__ inline std::uint32_t e4m3_of_four(float a, float b, float c, float d) {
  std::uint32_t four;
  asm("{\n"
      ".reg .b16 low, high;\n"
      "cvt.rn.satfinite.e4m3x2.f32 low, %2, %1;\n"
      "cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;\n"
      "mov.b32 %0, {low, high};\n"
      "}"
      : "=r"(four)
      : "f"(a), "f"(b), "f"(c), "f"(d));
  return four;
}
#else
__device__ inline std::uint32_t e4m3_of_four(float a, float b, float c, float d) {
  return e4m3_of_pair(a, b) | e4m3_of_pair(c, d) << 16;
}
#endif

/// Of four bytes.
__device__ inline void four_of_e4m3(std::uint32_t bytes, float (&v)[4]) {
  pair_of_e4m3(bytes, v[0], v[1]);
  pair_of_e4m3(bytes >> 16, v[2], v[3]);
}

__device__ inline std::uint32_t multiply_halves(std::uint32_t a, std::uint32_t b) {
  std::uint32_t product;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
  return product;
}
/// The larger ones; NaN where either is.
__device__ inline std::uint32_t larger_halves(std::uint32_t a, std::uint32_t b) {
  std::uint32_t larger;
  asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  return larger;
}

}  // namespace fourmi::cuda
