// Attention's pair products, AVX-512 with bf16: tiles of eight rows by up to three vectors.
#include <immintrin.h>

#include <array>
#include <cstring>

#include "kernels/cpu/attention_pairs.h"
#include "kernels/numerics/target.h"

namespace fourmi::attention {
namespace {

FOURMI_AVX512 inline __attribute__((always_inline)) __m512i broadcast(const Word* p) {
  Word word;
  std::memcpy(&word, p, sizeof(word));
  return _mm512_set1_epi32(static_cast<int>(word));
}

template <int R, int V>
FOURMI_AVX512 [[gnu::noinline]] void tile(const PairProduct& p, std::int64_t row, std::int64_t column) {
  float* const first_c = p.c + row * p.c_row + column;
  __m512 c[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int j = 0; j < V; ++j)
      c[r][j] = p.finish == Finish::go_on ? _mm512_loadu_ps(first_c + r * p.c_row + 16 * j) : _mm512_setzero_ps();
  const std::int64_t a_row = p.a_row, a_step = p.a_step, b_step = p.b_step;
  const Word* b = p.b + column;
  // Three addresses; each reaches three rows by an index.
  const Word* third[3] = {p.a + row * a_row, p.a + (row + 3) * a_row, p.a + (row + 6) * a_row};
  for (std::int64_t k = 0; k < p.steps; ++k, b += b_step) {
    __m512i x[V];
#pragma GCC unroll 3
    for (int j = 0; j < V; ++j) x[j] = _mm512_loadu_si512(b + 16 * j);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512i y = broadcast(third[r / 3] + (r % 3) * a_row);
#pragma GCC unroll 3
      for (int j = 0; j < V; ++j)
        c[r][j] = _mm512_dpbf16_ps(c[r][j], reinterpret_cast<__m512bh>(y), reinterpret_cast<__m512bh>(x[j]));
    }
#pragma GCC unroll 3
    for (int t = 0; t < (R + 2) / 3; ++t) third[t] += a_step;
  }
  if (p.finish == Finish::add) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
      for (int j = 0; j < V; ++j) c[r][j] = _mm512_add_ps(_mm512_loadu_ps(first_c + r * p.c_row + 16 * j), c[r][j]);
  } else if (p.finish == Finish::rescale_and_add) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512 factor = _mm512_set1_ps(p.factor[row + r]);
#pragma GCC unroll 3
      for (int j = 0; j < V; ++j)
        c[r][j] = _mm512_fmadd_ps(_mm512_loadu_ps(first_c + r * p.c_row + 16 * j), factor,
                                  _mm512_add_ps(c[r][j], _mm512_setzero_ps()));
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int j = 0; j < V; ++j) _mm512_storeu_ps(first_c + r * p.c_row + 16 * j, c[r][j]);
}

template <int R>
void rows(const PairProduct& p, std::int64_t& row) {
  for (; row + R <= p.rows; row += R)
    for (std::int64_t j = 0; j < p.vectors;) {
      // 4 as 2 + 2, not 3 + 1.
      const std::int64_t left = p.vectors - j, taken = left == 4 ? 2 : left > 3 ? 3 : left;
      (taken == 3 ? tile<R, 3> : taken == 2 ? tile<R, 2> : tile<R, 1>)(p, row, 16 * j);
      j += taken;
    }
}

void multiply(const PairProduct& p) {
  std::int64_t row = 0;
  rows<8>(p, row);
  rows<4>(p, row);
  rows<2>(p, row);
  rows<1>(p, row);
}

/// bf16 of 16 floats; the instruction takes denormals as zero.
FOURMI_AVX512 inline __attribute__((always_inline)) __m512i load_rounded(const float* low, const float* high) {
  const __m512 a = low ? _mm512_loadu_ps(low) : _mm512_setzero_ps();
  const __m512 b = high ? _mm512_loadu_ps(high) : _mm512_setzero_ps();
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a));
}

FOURMI_AVX512 void round(const RoundedRows& r) {
  alignas(64) static constexpr std::array<std::uint16_t, 32> interleaved = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                                            21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                                            11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i order = _mm512_load_si512(interleaved.data());
  for (std::int64_t j = 0; j < r.vectors; ++j) {
    const __m512i both = load_rounded(r.even ? r.even + 16 * j : nullptr, r.odd ? r.odd + 16 * j : nullptr);
    if (r.even_row)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(r.even_row + 8 * j),
                          _mm512_maskz_extracti64x4_epi64(0xf, both, 0));
    if (r.odd_row)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(r.odd_row + 8 * j), _mm512_maskz_extracti64x4_epi64(0xf, both, 1));
    if (r.pairs) _mm512_storeu_si512(r.pairs + 16 * j, _mm512_permutexvar_epi16(order, both));
  }
}

}  // namespace

PairKernels pair_kernels_avx512() {
  return {multiply, round};
}

}  // namespace fourmi::attention
