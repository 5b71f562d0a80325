// The matrix units as a warp uses them on registers: 16 x 8 sums over 16 elements of 16 bits, accumulated in f32. For
// .cu files. The numbers of a lane: g = lane / 4, t = lane % 4.
#pragma once

#include <cstdint>

#include "kernels/cuda/bfloat16_instructions.h"
#include "kernels/cuda/float8_instructions.h"

namespace fourmi::cuda {

/// Four matrices of 8 x 8 elements of 16 bits from shared memory. Lane l gives the address (16-byte aligned) of row
/// l % 8 of matrix l / 8, and gets of each matrix elements 2 t and 2 t + 1 of row g; `across`: of column g.
template <bool across>
__device__ inline void load_matrices(const void* row, std::uint32_t (&r)[4]) {
  const auto from = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (across)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}

/// c += a b^T, a of 16 rows, b of 8, both of 16 elements. A lane has of a rows g, g + 8, g, g + 8 at elements 2 t,
/// 2 t, 2 t + 8, 2 t + 8 (each and the next one), of b row g at 2 t and 2 t + 8, of c rows g, g, g + 8, g + 8 in
/// columns 2 t, 2 t + 1, 2 t, 2 t + 1.
__device__ inline void multiply_add_bf16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                         std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// The same of f16.
__device__ inline void multiply_add_f16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                        std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Two elements of e4m3 (the lower byte is the first) in f16, which has all of them.
__device__ inline std::uint32_t f16_of_e4m3(std::uint32_t two) {
  return halves_of_e4m3(two);
}
/// Two elements of e4m3, times s, rounded to bf16. NaN stays NaN.
__device__ inline std::uint32_t bf16_of_e4m3(std::uint32_t two, float s) {
  float first, second;
  pair_of_e4m3(two, first, second);
  return bfloat16_of_pair(first * s, second * s);
}

}  // namespace fourmi::cuda
