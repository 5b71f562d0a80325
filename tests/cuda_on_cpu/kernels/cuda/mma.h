// In place of kernels/cuda/mma.h: what the matrix units do, by the lanes of a warp, which exchange what they hold. A
// sum is one chain in f32, ascending.
#pragma once

#include <cstdlib>

#include "kernels/numerics/bfloat16.h"
#include "kernels/numerics/float8.h"
#include "tests/cuda_on_cpu/block.h"

namespace fourmi::cuda {

template <bool across>
void load_matrices(const void* row, std::uint32_t (&r)[4]) {
  using Row = const std::uint16_t*;
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) std::abort();
  const Row mine = static_cast<Row>(row);
  const auto& all = cuda_on_cpu::exchange(0xffffffffu, &mine, sizeof(mine));
  const int g = cuda_on_cpu::lane() / 4, t = cuda_on_cpu::lane() % 4;
  const auto element = [&](int matrix, int i, int j) {
    return std::uint32_t{cuda_on_cpu::from_lane<Row>(all, matrix * 8 + i)[j]};
  };
  for (int m = 0; m < 4; ++m)
    r[m] = across ? element(m, 2 * t, g) | element(m, 2 * t + 1, g) << 16
                  : element(m, g, 2 * t) | element(m, g, 2 * t + 1) << 16;
}

namespace mma {

inline float value_of_f16(std::uint16_t x) {
  const std::uint32_t sign = std::uint32_t{x} >> 15 << 31, magnitude = x & 0x7fffu;
  if (magnitude > 0x7c00u) return std::bit_cast<float>(0x7fc00000u);
  return std::bit_cast<float>(sign | magnitude << 13) * 0x1p112f;  // f16's bias is 15; no infinities come here
}
inline float value_of_bf16(std::uint16_t x) {
  return static_cast<float>(bfloat16::from_bits(x));
}

/// What a lane brings: of a rows g and g + 8, of b row g, at elements 2 t, 2 t + 1, 2 t + 8, 2 t + 9.
struct Values {
  float a[2][4], b[4];
};
template <class Value>
void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1, const Value& value) {
  const auto half = [&](std::uint32_t two, int i) { return value(static_cast<std::uint16_t>(two >> (16 * i))); };
  Values mine;
  for (int i = 0; i < 4; ++i) {
    for (int row = 0; row < 2; ++row) mine.a[row][i] = half(a[i / 2 * 2 + row], i % 2);
    mine.b[i] = half(i < 2 ? b0 : b1, i % 2);
  }
  const auto& all = cuda_on_cpu::exchange(0xffffffffu, &mine, sizeof(mine));
  const int g = cuda_on_cpu::lane() / 4, t = cuda_on_cpu::lane() % 4;
  for (int half_of_sum = 0; half_of_sum < 4; half_of_sum += 2)
    for (int from = 0; from < 4; ++from) {
      const auto row = cuda_on_cpu::from_lane<Values>(all, 4 * g + from);
      const auto first = cuda_on_cpu::from_lane<Values>(all, 8 * t + from);  // b's row 2 t
      const auto second = cuda_on_cpu::from_lane<Values>(all, 8 * t + 4 + from);
      for (int k = half_of_sum; k < half_of_sum + 2; ++k)
        for (int i = 0; i < 2; ++i) {
          c[2 * i] = __builtin_fmaf(row.a[i][k], first.b[k], c[2 * i]);
          c[2 * i + 1] = __builtin_fmaf(row.a[i][k], second.b[k], c[2 * i + 1]);
        }
    }
}

}  // namespace mma

inline void multiply_add_bf16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  mma::multiply_add(c, a, b0, b1, mma::value_of_bf16);
}
inline void multiply_add_f16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  mma::multiply_add(c, a, b0, b1, mma::value_of_f16);
}

inline std::uint32_t f16_of_e4m3(std::uint32_t two) {
  std::uint32_t r = 0;
  for (int i = 0; i < 2; ++i) {
    const auto q = static_cast<std::uint8_t>(two >> (8 * i));
    const float value = static_cast<float>(float8_e4m3::from_bits(q & 0x7fu)) * 0x1p-112f;
    const std::uint32_t magnitude = (q & 0x7fu) == 0x7fu ? 0x7fffu : std::bit_cast<std::uint32_t>(value) >> 13;
    r |= (std::uint32_t{q} >> 7 << 15 | magnitude) << (16 * i);
  }
  return r;
}
inline std::uint32_t bf16_of_e4m3(std::uint32_t two, float s) {
  std::uint32_t r = 0;
  for (int i = 0; i < 2; ++i) {
    const auto q = float8_e4m3::from_bits(static_cast<std::uint8_t>(two >> (8 * i)));
    r |= std::uint32_t{bfloat16(static_cast<float>(q) * s).bits} << (16 * i);
  }
  return r;
}

}  // namespace fourmi::cuda
