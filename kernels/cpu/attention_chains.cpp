#include "kernels/cpu/attention_chains.h"

#include <immintrin.h>

#include "kernels/numerics/math.h"
#include "kernels/runtime/error.h"

namespace fourmi::attention {
namespace {

template <class T>
void add_portable(const Chain<T>& d) {
  for (std::int64_t r = 0; r < d.rows; ++r) {
    T* c = d.c + r * d.c_row;
    if (d.from_zero)
      for (int l = 0; l < lanes; ++l) c[l] = 0;
    for (std::int64_t k = 0; k < d.steps; ++k)
      for (int l = 0; l < lanes; ++l) c[l] = fma(d.a[k * d.a_step + l], d.b[k * d.b_step + r * d.b_row], c[l]);
  }
}

template <class T>
void add_masked_portable(const Chain<T>& d, const MaskWord<T>* mask) {
  for (std::int64_t r = 0; r < d.rows; ++r) {
    T* c = d.c + r * d.c_row;
    if (d.from_zero)
      for (int l = 0; l < lanes; ++l) c[l] = 0;
    for (std::int64_t k = 0; k < d.steps; ++k)
      for (int l = 0; l < lanes; ++l) {
        const T next = fma(d.a[k * d.a_step + l], d.b[k * d.b_step + r * d.b_row], c[l]);
        c[l] = mask[k * lanes + l] != 0 ? next : c[l];
      }
  }
}

template <class T>
void transpose_portable(const T* in, std::int64_t in_step, T* out, std::int64_t out_step) {
  for (int i = 0; i < lanes; ++i)
    for (int j = 0; j < lanes; ++j) out[j * out_step + i] = in[i * in_step + j];
}

/// Rows in groups of R, what is left by smaller groups: R * 2 accumulators of AVX2, R of AVX-512.
template <int R, bool masked>
void rows_avx2(const Chain<float>& d, const std::uint32_t* mask, std::int64_t& r) {
  for (; r + R <= d.rows; r += R) {
    __m256 c[R][2];
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half)
        c[i][half] = d.from_zero ? _mm256_setzero_ps() : _mm256_loadu_ps(d.c + (r + i) * d.c_row + 8 * half);
    const float* b = d.b + r * d.b_row;
    for (std::int64_t k = 0; k < d.steps; ++k, b += d.b_step) {
      const float* a = d.a + k * d.a_step;
      const __m256 a0 = _mm256_loadu_ps(a), a1 = _mm256_loadu_ps(a + 8);
      __m256 m0, m1;
      if constexpr (masked) {
        m0 = _mm256_loadu_ps(reinterpret_cast<const float*>(mask + k * lanes));
        m1 = _mm256_loadu_ps(reinterpret_cast<const float*>(mask + k * lanes + 8));
      }
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i) {
        const __m256 x = _mm256_broadcast_ss(b + i * d.b_row);
        const __m256 n0 = _mm256_fmadd_ps(a0, x, c[i][0]), n1 = _mm256_fmadd_ps(a1, x, c[i][1]);
        if constexpr (masked) {
          c[i][0] = _mm256_blendv_ps(c[i][0], n0, m0);
          c[i][1] = _mm256_blendv_ps(c[i][1], n1, m1);
        } else {
          c[i][0] = n0;
          c[i][1] = n1;
        }
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) _mm256_storeu_ps(d.c + (r + i) * d.c_row + 8 * half, c[i][half]);
  }
}

template <bool masked>
void all_rows_avx2(const Chain<float>& d, const std::uint32_t* mask) {
  std::int64_t r = 0;
  rows_avx2<masked ? 4 : 6, masked>(d, mask, r);
  rows_avx2<2, masked>(d, mask, r);
  rows_avx2<1, masked>(d, mask, r);
}

void add_avx2(const Chain<float>& d) {
  all_rows_avx2<false>(d, nullptr);
}
void add_masked_avx2(const Chain<float>& d, const std::uint32_t* mask) {
  all_rows_avx2<true>(d, mask);
}

/// Four 8 x 8 blocks: pairs, then pairs of pairs, then halves.
void transpose_avx2(const float* in, std::int64_t in_step, float* out, std::int64_t out_step) {
  for (int block = 0; block < 4; ++block) {
    const float* x = in + block / 2 * 8 * in_step + block % 2 * 8;
    float* y = out + block % 2 * 8 * out_step + block / 2 * 8;
    __m256 a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_ps(x + i * in_step);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
      b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
      b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
      a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
      a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
      a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
      a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      _mm256_storeu_ps(y + i * out_step, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
      _mm256_storeu_ps(y + (i + 4) * out_step, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
    }
  }
}

/// Inside quarters of a vector as for AVX2, then the 4 x 4 quarters. (Plain shuffles: the intrinsics' headers of GCC 12
/// warn about themselves.)
FOURMI_AVX512 void transpose_avx512(const float* in, std::int64_t in_step, float* out, std::int64_t out_step) {
  using Index = int __attribute__((vector_size(64)));
  constexpr Index low = {0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29};
  constexpr Index high = {2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31};
  constexpr Index low_pair = {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29};
  constexpr Index high_pair = {2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31};
  constexpr Index even_quarters = {0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27};
  constexpr Index odd_quarters = {4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31};
  __m512 a[16], b[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_ps(in + i * in_step);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    b[i] = __builtin_shuffle(a[i], a[i + 1], low);
    b[i + 1] = __builtin_shuffle(a[i], a[i + 1], high);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    a[i] = __builtin_shuffle(b[i], b[i + 2], low_pair);
    a[i + 1] = __builtin_shuffle(b[i], b[i + 2], high_pair);
    a[i + 2] = __builtin_shuffle(b[i + 1], b[i + 3], low_pair);
    a[i + 3] = __builtin_shuffle(b[i + 1], b[i + 3], high_pair);
  }
  // a[4 q + i] holds columns i, 4 + i, 8 + i, 12 + i of rows 4 q .. 4 q + 3.
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512 even_top = __builtin_shuffle(a[i], a[i + 4], even_quarters);
    const __m512 odd_top = __builtin_shuffle(a[i], a[i + 4], odd_quarters);
    const __m512 even_low = __builtin_shuffle(a[i + 8], a[i + 12], even_quarters);
    const __m512 odd_low = __builtin_shuffle(a[i + 8], a[i + 12], odd_quarters);
    _mm512_storeu_ps(out + i * out_step, __builtin_shuffle(even_top, even_low, even_quarters));
    _mm512_storeu_ps(out + (i + 4) * out_step, __builtin_shuffle(odd_top, odd_low, even_quarters));
    _mm512_storeu_ps(out + (i + 8) * out_step, __builtin_shuffle(even_top, even_low, odd_quarters));
    _mm512_storeu_ps(out + (i + 12) * out_step, __builtin_shuffle(odd_top, odd_low, odd_quarters));
  }
}

/// b_row 1 and 16 are compiled apart (stride > 0), so that the rows of b are displacements of one address.
template <int R, int stride, bool masked>
FOURMI_AVX512 void rows_avx512(const Chain<float>& d, const std::uint32_t* mask, std::int64_t& r) {
  const std::int64_t row = stride > 0 ? stride : d.b_row;
  for (; r + R <= d.rows; r += R) {
    __m512 c[R];
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) c[i] = d.from_zero ? _mm512_setzero_ps() : _mm512_loadu_ps(d.c + (r + i) * d.c_row);
    // Four addresses a group of four rows reach by index, instead of one register a row.
    const float* b[(R + 3) / 4];
#pragma GCC unroll 4
    for (int j = 0; j < (R + 3) / 4; ++j) b[j] = d.b + (r + 4 * j) * row;
    const float* a = d.a;
    for (std::int64_t k = 0; k < d.steps; ++k, a += d.a_step) {
      const __m512 x = _mm512_loadu_ps(a);
      __mmask16 m = 0xffff;
      if constexpr (masked) m = _mm512_movepi32_mask(_mm512_loadu_si512(mask + k * lanes));
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const __m512 y = _mm512_set1_ps(b[i / 4][(i % 4) * row]);
        c[i] = masked ? _mm512_mask3_fmadd_ps(x, y, c[i], m) : _mm512_fmadd_ps(x, y, c[i]);
      }
#pragma GCC unroll 4
      for (int j = 0; j < (R + 3) / 4; ++j) b[j] += d.b_step;
    }
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) _mm512_storeu_ps(d.c + (r + i) * d.c_row, c[i]);
  }
}

template <int stride, bool masked>
FOURMI_AVX512 void all_rows_avx512(const Chain<float>& d, const std::uint32_t* mask) {
  std::int64_t r = 0;
  rows_avx512<16, stride, masked>(d, mask, r);
  rows_avx512<8, stride, masked>(d, mask, r);
  rows_avx512<4, stride, masked>(d, mask, r);
  rows_avx512<1, stride, masked>(d, mask, r);
}

void add_avx512(const Chain<float>& d) {
  if (d.b_row == 1) return all_rows_avx512<1, false>(d, nullptr);
  if (d.b_row == lanes) return all_rows_avx512<lanes, false>(d, nullptr);
  all_rows_avx512<0, false>(d, nullptr);
}
void add_masked_avx512(const Chain<float>& d, const std::uint32_t* mask) {
  if (d.b_row == 1) return all_rows_avx512<1, true>(d, mask);
  all_rows_avx512<0, true>(d, mask);
}

}  // namespace

template <>
Chains<double> chains_of<double>(Isa) {
  return {add_portable<double>, add_masked_portable<double>, transpose_portable<double>};
}
template <>
Chains<float> chains_of<float>(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return {add_portable<float>, add_masked_portable<float>, transpose_portable<float>};
    case Isa::avx2:
      return {add_avx2, add_masked_avx2, transpose_avx2};
    case Isa::avx512:
      return {add_avx512, add_masked_avx512, transpose_avx512};
  }
  FOURMI_CHECK(false, "instruction set {}", static_cast<int>(isa));
}

}  // namespace fourmi::attention
