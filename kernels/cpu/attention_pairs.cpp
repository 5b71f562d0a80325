// Attention's pair products, tiers portable and AVX2. Both imitate vdpbf16ps by two fused multiply-adds a pair with
// denormals flushed; what follows a finished chain is plain arithmetic and stays outside of that.
#include "kernels/cpu/attention_pairs.h"

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/numerics/flush_denormals.h"

namespace fourmi::attention {
namespace {

constexpr std::int64_t width = 16;  // columns of a vector

/// Chains of up to `most_rows` rows and one vector between the product and its finish.
constexpr std::int64_t most_rows = 4;
using Chains = float[most_rows][width];

void start(const PairProduct& p, std::int64_t row, std::int64_t rows, std::int64_t column, Chains& chains) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t j = 0; j < width; ++j)
      chains[r][j] = p.finish == Finish::go_on ? p.c[(row + r) * p.c_row + column + j] : 0.0F;
}

void finish(const PairProduct& p, std::int64_t row, std::int64_t rows, std::int64_t column, const Chains& chains) {
  for (std::int64_t r = 0; r < rows; ++r) {
    float* c = p.c + (row + r) * p.c_row + column;
    for (std::int64_t j = 0; j < width; ++j) {
      const float sum = chains[r][j];
      if (p.finish == Finish::add)
        c[j] = c[j] + sum;
      else if (p.finish == Finish::rescale_and_add)
        c[j] = std::fma(c[j], p.factor[row + r], sum + 0.0F);
      else
        c[j] = sum;
    }
  }
}

float odd_of(Word w) {
  return std::bit_cast<float>(w & 0xffff0000U);
}
float even_of(Word w) {
  return std::bit_cast<float>(w << 16);
}

[[gnu::noinline]] void chain_portable(const PairProduct& p, std::int64_t row, std::int64_t rows, std::int64_t column,
                                      Chains& chains) {
  const FlushDenormals guard;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t k = 0; k < p.steps; ++k) {
      const Word a = p.a[(row + r) * p.a_row + k * p.a_step];
      for (std::int64_t j = 0; j < width; ++j) {
        const Word b = p.b[k * p.b_step + column + j];
        chains[r][j] = std::fma(even_of(a), even_of(b), std::fma(odd_of(a), odd_of(b), chains[r][j]));
      }
    }
}

template <int R>
void chain_rows(const PairProduct& p, std::int64_t row, std::int64_t column, Chains& chains) {
  const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000U));
  __m256 c[R][2];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) c[r][h] = _mm256_loadu_ps(chains[r] + 8 * h);
  const Word* a = p.a + row * p.a_row;
  const Word* b = p.b + column;
  for (std::int64_t k = 0; k < p.steps; ++k, a += p.a_step, b += p.b_step) {
    __m256 even[2], odd[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + 8 * h));
      odd[h] = _mm256_castsi256_ps(_mm256_and_si256(w, high));
      even[h] = _mm256_castsi256_ps(_mm256_slli_epi32(w, 16));
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const __m256i w = _mm256_set1_epi32(static_cast<int>(a[r * p.a_row]));
      const __m256 x = _mm256_castsi256_ps(_mm256_and_si256(w, high)),
                   y = _mm256_castsi256_ps(_mm256_slli_epi32(w, 16));
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) c[r][h] = _mm256_fmadd_ps(y, even[h], _mm256_fmadd_ps(x, odd[h], c[r][h]));
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) _mm256_storeu_ps(chains[r] + 8 * h, c[r][h]);
}

[[gnu::noinline]] void chain_avx2(const PairProduct& p, std::int64_t row, std::int64_t rows, std::int64_t column,
                                  Chains& chains) {
  const FlushDenormals guard;
  if (rows == 4) return chain_rows<4>(p, row, column, chains);
  if (rows == 3) return chain_rows<3>(p, row, column, chains);
  if (rows == 2) return chain_rows<2>(p, row, column, chains);
  chain_rows<1>(p, row, column, chains);
}

template <auto chain>
void multiply(const PairProduct& p) {
  for (std::int64_t row = 0; row < p.rows; row += most_rows)
    for (std::int64_t column = 0; column < p.vectors * width; column += width) {
      const std::int64_t rows = std::min(most_rows, p.rows - row);
      Chains chains;
      start(p, row, rows, column, chains);
      chain(p, row, rows, column, chains);
      finish(p, row, rows, column, chains);
    }
}

void round_portable(const RoundedRows& r) {
  for (std::int64_t j = 0; j < r.vectors * width; ++j) {
    const bfloat16 even = r.even ? narrow_flushed(r.even[j]) : bfloat16{},
                   odd = r.odd ? narrow_flushed(r.odd[j]) : bfloat16{};
    if (r.even_row) reinterpret_cast<bfloat16*>(r.even_row)[j] = even;
    if (r.odd_row) reinterpret_cast<bfloat16*>(r.odd_row)[j] = odd;
    if (r.pairs) r.pairs[j] = even.bits | static_cast<Word>(odd.bits) << 16;
  }
}

}  // namespace

PairKernels pair_kernels(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return {multiply<chain_portable>, round_portable};
    case Isa::avx2:
      return {multiply<chain_avx2>, round_portable};
    case Isa::avx512:
      return pair_kernels_avx512();
  }
  return {};
}

}  // namespace fourmi::attention
