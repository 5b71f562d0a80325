// What the AVX-512 kernels of linear maps share: tiles of 12 rows by two vectors of 16, packed in words of 32 bits (one
// f32, or a pair of bf16 for vdpbf16ps), and their finish. For two files' own use: everything is static. Only functions
// marked so are compiled for AVX-512.
#pragma once

// GCC 12 warns of the deliberately undefined operands inside its own intrinsics (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>

#include "kernels/cpu/linear_finish.h"

#define FOURMI_AVX512 [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]]
#define FOURMI_AVX512_INLINE [[gnu::always_inline]] FOURMI_AVX512 static inline

namespace fourmi::linear {

using Word = std::uint32_t;
constexpr std::int64_t most_rows = 12, width_b = 32;

/// 16 rows of 16 words become 16 steps, width_b words apart.
FOURMI_AVX512_INLINE void transpose(__m512i (&r)[16], std::int64_t steps, Word* dst) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // Lane l of r[4 g + k] now holds rows 4 g .. 4 g + 3 of step 4 l + k.
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    const __m512i low = _mm512_shuffle_i32x4(r[k], r[4 + k], 0x44), high = _mm512_shuffle_i32x4(r[k], r[4 + k], 0xee);
    const __m512i low2 = _mm512_shuffle_i32x4(r[8 + k], r[12 + k], 0x44),
                  high2 = _mm512_shuffle_i32x4(r[8 + k], r[12 + k], 0xee);
    if (k < steps) _mm512_storeu_si512(dst + k * width_b, _mm512_shuffle_i32x4(low, low2, 0x88));
    if (4 + k < steps) _mm512_storeu_si512(dst + (4 + k) * width_b, _mm512_shuffle_i32x4(low, low2, 0xdd));
    if (8 + k < steps) _mm512_storeu_si512(dst + (8 + k) * width_b, _mm512_shuffle_i32x4(high, high2, 0x88));
    if (12 + k < steps) _mm512_storeu_si512(dst + (12 + k) * width_b, _mm512_shuffle_i32x4(high, high2, 0xdd));
  }
}

/// The rounding of bfloat16, 16 at a time. (The instruction for it would flush denormals.)
FOURMI_AVX512_INLINE __m256i round_to_bf16(__m512 x) {
  const __m512i u = _mm512_castps_si512(x), one = _mm512_set1_epi32(1);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), one);
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
  const __m512i quiet_nan = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet_nan), 16));
}

/// linear::finish for float chains of a tile into f32 or bf16.
template <bool to_bf16>
FOURMI_AVX512 static void finish_tile(const Output& out, std::int64_t row, std::int64_t col, std::int64_t rows,
                                      std::int64_t cols, const float* chains) {
  constexpr std::int64_t size = to_bf16 ? 2 : 4;
  for (std::int64_t j = 0; j < cols; j += 16) {
    const auto mask = static_cast<__mmask16>(cols - j >= 16 ? 0xffff : (1 << (cols - j)) - 1);
    std::int64_t at = (row * out.row_stride + col + j) * size;
    for (std::int64_t i = 0; i < rows; ++i, at += out.row_stride * size) {
      __m512 value = _mm512_loadu_ps(chains + i * width_b + j);
      if (out.residual) {
        const std::byte* residual = out.residual + at;
        if constexpr (to_bf16) {
          const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, residual));
          value = _mm512_add_ps(_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)), value);
        } else {
          value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, residual), value);
        }
      }
      if constexpr (to_bf16)
        _mm256_mask_storeu_epi16(out.data + at, mask, round_to_bf16(value));
      else
        _mm512_mask_storeu_ps(out.data + at, mask, value);
    }
  }
}

/// Adds to 4 of 128-bit totals the integers that `order` picks from their low and high halves.
FOURMI_AVX512_INLINE void add_exact(std::byte* total, __m512i low, __m512i high, __m512i order) {
  const __m512i addend = _mm512_permutex2var_epi64(low, order, high);
  const __m512i sum = _mm512_add_epi64(_mm512_loadu_si512(total), addend);
  const unsigned wrapped = _mm512_cmplt_epu64_mask(sum, addend) & 0x55U;  // low halves; their carry goes one lane up
  _mm512_storeu_si512(total,
                      _mm512_mask_add_epi64(sum, static_cast<__mmask8>(wrapped << 1), sum, _mm512_set1_epi64(1)));
}

/// linear::finish_exact, eight chains at a time unless one of them is refused.
FOURMI_AVX512 static void finish_exact_tile(const Output& out, std::int64_t row, std::int64_t col, std::int64_t rows,
                                            std::int64_t cols, const float* chains) {
  const __m512i first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
  const __m512i second = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
  const __m256 half = _mm256_set1_ps(0.5F), one = _mm256_set1_ps(1), limit = _mm256_set1_ps(0x1p40F);
  for (std::int64_t i = 0; i < rows; ++i, chains += width_b) {
    std::byte* total = out.data + ((row + i) * out.row_stride + col) * size_of(DType::fx128);
    std::int64_t j = 0;
    for (; j + 8 <= cols; j += 8, total += 8 * size_of(DType::fx128)) {
      const __m256 x = _mm256_loadu_ps(chains + j), magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0F), x);
      if (_mm256_cmp_ps_mask(magnitude, limit, _CMP_LT_OQ) != 0xff) {
        finish_exact(out, row + i, col + j, 1, 8, chains + j, width_b);
        continue;
      }
      // x = whole + rest exactly, rest in [-1/2, 1/2): each half of the integer is one conversion.
      __m256 whole = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), rest = _mm256_sub_ps(x, whole);
      const __mmask8 up = _mm256_cmp_ps_mask(rest, half, _CMP_EQ_OQ);
      whole = _mm256_mask_add_ps(whole, up, whole, one);
      rest = _mm256_mask_sub_ps(rest, up, rest, one);
      const __m512i low = _mm512_cvtps_epi64(_mm256_mul_ps(rest, _mm256_set1_ps(0x1p64F)));
      const __m512i high = _mm512_add_epi64(_mm512_cvtps_epi64(whole), _mm512_srai_epi64(low, 63));
      add_exact(total, low, high, first);
      add_exact(total + 4 * size_of(DType::fx128), low, high, second);
    }
    if (j < cols) finish_exact(out, row + i, col + j, 1, cols - j, chains + j, width_b);
  }
}

/// linear::finish for the chains of a tile, [rows][width_b].
static inline void finish_chains(const Output& out, std::int64_t row, std::int64_t col, std::int64_t rows,
                                 std::int64_t cols, const float* chains) {
  if (out.dtype == DType::bf16)
    finish_tile<true>(out, row, col, rows, cols, chains);
  else if (out.dtype == DType::f32)
    finish_tile<false>(out, row, col, rows, cols, chains);
  else
    finish_exact_tile(out, row, col, rows, cols, chains);
}

}  // namespace fourmi::linear
