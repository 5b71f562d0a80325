// Products of e4m3 elements, AVX-512: elements become bf16 while they are packed, tiles multiply them as those of
// linear_avx512.cpp do.
#include <array>
#include <cstring>
#include <utility>

#include "kernels/cpu/linear_scaled_blocked.h"
#include "kernels/cpu/linear_tile_avx512.h"

namespace fourmi::linear {
namespace {

/// The bf16 of every e4m3 without sign.
struct Magnitudes {
  alignas(64) std::uint16_t bf16[128];
  constexpr Magnitudes() : bf16{} {
    for (unsigned i = 0; i < 128; ++i)
      bf16[i] = static_cast<bfloat16>(float8_e4m3::from_bits(static_cast<std::uint8_t>(i))).bits;
  }
};
constexpr Magnitudes magnitudes;

/// 32 elements as bf16, in their order: two looks into the halves of the table, which bit 6 chooses from.
FOURMI_AVX512_INLINE __m512i widen(__m256i elements) {
  const std::uint16_t* table = magnitudes.bf16;
  const __m512i x = _mm512_cvtepi8_epi16(elements);  // bits 7 to 15 are the sign
  const __m512i lower = _mm512_permutex2var_epi16(_mm512_load_si512(table + 0), x, _mm512_load_si512(table + 32));
  const __m512i upper = _mm512_permutex2var_epi16(_mm512_load_si512(table + 64), x, _mm512_load_si512(table + 96));
  const __m512i y = _mm512_mask_blend_epi16(_mm512_test_epi16_mask(x, _mm512_set1_epi16(0x40)), lower, upper);
  return _mm512_ternarylogic_epi32(y, x, _mm512_set1_epi16(static_cast<short>(0x8000)), 0xf8);  // y | (x & sign)
}

/// Pairs of bf16, each times its word's factor (mx). Exact, or beyond bf16's range: infinite, or a denormal that the
/// product takes for zero.
FOURMI_AVX512_INLINE __m512i scale_pairs(__m512i pairs, __m512 factor) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000U));
  const __m512 odd = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_and_si512(pairs, upper)), factor);
  const __m512 even = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)), factor);
  return _mm512_or_si512(_mm512_and_si512(_mm512_castps_si512(odd), upper),
                         _mm512_srli_epi32(_mm512_castps_si512(even), 16));
}

/// Up to 32 elements of a line as 16 words.
FOURMI_AVX512_INLINE __m512i load_along(const std::uint8_t* p, std::int64_t count) {
  return widen(_mm256_maskz_loadu_epi8(count >= 32 ? 0xffffffffU : (1U << count) - 1U, p));
}

/// 16 words across: a pair of rows, of which the second may be absent.
FOURMI_AVX512_INLINE __m512i load_across(const std::uint8_t* p, std::int64_t stride, std::int64_t rows,
                                         __mmask16 mask) {
  const __m128i even = _mm_maskz_loadu_epi8(mask, p);
  const __m128i odd = rows < 2 ? _mm_setzero_si128() : _mm_maskz_loadu_epi8(mask, p + stride);
  return widen(_mm256_set_m128i(_mm_unpackhi_epi8(even, odd), _mm_unpacklo_epi8(even, odd)));
}

/// The tile's chains over its share of the sum; V vectors of each row are wanted.
template <Promotion promotion, int R, int V>
FOURMI_AVX512 [[gnu::noinline]] void run_tile(const PackedTile<Word>& t) {
  constexpr bool promotes = promotion != Promotion::none;
  const std::int64_t group_steps = promotes ? ScaledFormat::block / 2 : divide_up(t.count, 2);
  const std::byte* a = t.a;
  const Word* b = t.b;
  const float *a_scales = t.a_scales, *b_scales = t.b_scales;
  bool first = t.first;
  for (std::int64_t left = divide_up(t.count, 2); left > 0; left -= group_steps) {
    __m512 c[R][V];
#pragma GCC unroll 12
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < V; ++j) {
        if (promotes || first)
          c[i][j] = _mm512_setzero_ps();
        else
          c[i][j] = _mm512_loadu_ps(t.sums + i * width_b + j * 16);
      }
    const std::byte* quarter[4] = {a, a + 3 * t.a_row, a + 6 * t.a_row, a + 9 * t.a_row};
    const std::int64_t steps = std::min(left, group_steps);
    for (std::int64_t s = 0; s < steps; ++s, b += width_b) {
      __m512i column[V];
#pragma GCC unroll 2
      for (int j = 0; j < V; ++j) column[j] = _mm512_loadu_si512(b + j * 16);
#pragma GCC unroll 12
      for (int i = 0; i < R; ++i) {
        Word word;
        std::memcpy(&word, quarter[i / 3] + (i % 3) * t.a_row, sizeof(word));
        const __m512i x = _mm512_set1_epi32(static_cast<int>(word));
#pragma GCC unroll 2
        for (int j = 0; j < V; ++j)
          c[i][j] = _mm512_dpbf16_ps(c[i][j], reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(column[j]));
      }
#pragma GCC unroll 4
      for (int q = 0; q < (R + 2) / 3; ++q) quarter[q] += t.a_step;
    }
    a += group_steps * t.a_step;
    alignas(64) float by_row[16];
    if (promotion == Promotion::by_tile)
      _mm512_store_ps(by_row,
                      _mm512_mul_ps(_mm512_maskz_loadu_ps((1U << R) - 1U, a_scales), _mm512_set1_ps(b_scales[0])));
#pragma GCC unroll 12
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < V; ++j) {
        float* sum = t.sums + i * width_b + j * 16;
        if (promotes) {
          const __m512 f = promotion == Promotion::by_tile
                               ? _mm512_set1_ps(by_row[i])
                               : _mm512_mul_ps(_mm512_set1_ps(a_scales[i]), _mm512_loadu_ps(b_scales + j * 16));
          c[i][j] = _mm512_fmadd_ps(f, c[i][j], first ? _mm512_setzero_ps() : _mm512_loadu_ps(sum));
        }
        _mm512_storeu_ps(sum, c[i][j]);
      }
    a_scales += most_rows, b_scales += width_b;
    first = false;
  }
}

struct Kernel {
  using Unit = Word;
  static constexpr std::int64_t tile_rows = most_rows, tile_cols = width_b, block_elements = 512;
  static std::int64_t steps(std::int64_t n) { return divide_up(n, 2); }

  template <std::int64_t width, bool transposed, bool scaled>
  FOURMI_AVX512 static void pack_along(PackSource from, std::int64_t lines, std::int64_t n, const float* scales,
                                       Word* dst) {
    if constexpr (transposed) {
      for (std::int64_t j = 0; j < lines; j += 16)  // a second vector without lines is never read
        for (std::int64_t s = 0; s < n; s += 32) {
          __m512i rows[16];
#pragma GCC unroll 16
          for (int i = 0; i < 16; ++i) {
            rows[i] = _mm512_setzero_si512();
            if (j + i >= lines) continue;
            rows[i] = load_along(from.elements + (j + i) * from.stride + s, n - s);
            if (scaled) rows[i] = scale_pairs(rows[i], _mm512_set1_ps(scales[s / 32 * width + j + i]));
          }
          transpose(rows, steps(n - s), dst + steps(s) * width + j);
        }
      return;
    }
    for (std::int64_t i = 0; i < lines; ++i)
      for (std::int64_t s = 0; s < n; s += 32) {
        __m512i words = load_along(from.elements + i * from.stride + s, n - s);
        if (scaled) words = scale_pairs(words, _mm512_set1_ps(scales[s / 32 * width + i]));
        const std::int64_t left = steps(n - s);
        _mm512_mask_storeu_epi32(dst + i * steps(n) + steps(s),
                                 static_cast<__mmask16>(left >= 16 ? 0xffff : (1 << left) - 1), words);
      }
  }

  template <std::int64_t width, bool scaled>
  FOURMI_AVX512 static void pack_across(PackSource from, std::int64_t lines, std::int64_t n, const float* scales,
                                        Word* dst) {
    const Word present = static_cast<Word>((1ULL << lines) - 1);
    constexpr auto stored = static_cast<__mmask16>(width < 16 ? (1U << width) - 1U : 0xffffU);
    for (std::int64_t s = 0; s < n; s += 2, from.elements += 2 * from.stride, dst += width)
#pragma GCC unroll 2
      for (std::int64_t j = 0; j < width; j += 16) {
        const auto mask = static_cast<__mmask16>(present >> j);
        __m512i words = load_across(from.elements + j, from.stride, n - s, mask);
        if (scaled) words = scale_pairs(words, _mm512_maskz_loadu_ps(mask, scales + s / 32 * width + j));
        _mm512_mask_storeu_epi32(dst + j, stored, words);
      }
  }

  template <Promotion promotion>
  static void multiply(const PackedTile<Word>& t) {
    using Run = void (*)(const PackedTile<Word>&);
    static constexpr auto tiles = []<int... R>(std::integer_sequence<int, R...>) {
      return std::array<std::array<Run, 2>, most_rows>{
          {{run_tile<promotion, R + 1, 1>, run_tile<promotion, R + 1, 2>}...}};
    }
    (std::make_integer_sequence<int, most_rows>{});
    tiles[static_cast<std::size_t>(t.rows - 1)][t.cols > 16](t);
  }

  static void finish(const Output& out, std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols,
                     const float* chains) {
    finish_chains(out, row, col, rows, cols, chains);
  }
};

}  // namespace

void run_scaled_avx512(const Stream& stream, const ScaledProblem& problem) {
  run_scaled_blocked<Kernel>(stream, problem);
}

}  // namespace fourmi::linear
