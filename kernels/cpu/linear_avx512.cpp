// Linear maps, AVX-512: a microkernel of 12 rows by two vectors of 16. Its unit is 32 bits: one f32, or a pair of bf16
// for vdpbf16ps, so that both dtypes share packing and tiles. Only functions marked so are compiled for AVX-512.
// GCC 12 warns of the deliberately undefined operands inside its own intrinsics (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>

#include <array>
#include <cstring>
#include <utility>

#include "kernels/cpu/linear_blocked.h"

#define FOURMI_AVX512 [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]]
#define FOURMI_AVX512_INLINE [[gnu::always_inline]] FOURMI_AVX512 static inline

namespace fourmi::linear {
namespace {

using Word = std::uint32_t;
constexpr std::int64_t most_rows = 12, width_b = 32;

struct Float {
  using Input = float;
  static constexpr std::int64_t per_word = 1;
  FOURMI_AVX512_INLINE __m512 multiply_add(__m512i a, __m512i b, __m512 c) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), c);
  }
  /// 16 words of a row of which `count` elements exist.
  FOURMI_AVX512_INLINE __m512i load_row(const float* p, std::int64_t count) {
    return _mm512_maskz_loadu_epi32(static_cast<__mmask16>(count >= 16 ? 0xffff : (1 << count) - 1), p);
  }
  /// 16 words across: element j of the step's row (or rows, of which `rows` exist).
  FOURMI_AVX512_INLINE __m512i load_across(const float* p, std::int64_t, std::int64_t, __mmask16 mask) {
    return _mm512_maskz_loadu_epi32(mask, p);
  }
};

struct Bfloat16 {
  using Input = bfloat16;
  static constexpr std::int64_t per_word = 2;
  FOURMI_AVX512_INLINE __m512 multiply_add(__m512i a, __m512i b, __m512 c) {
    return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  FOURMI_AVX512_INLINE __m512i load_row(const bfloat16* p, std::int64_t count) {
    return _mm512_maskz_loadu_epi16(count >= 32 ? 0xffffffffU : (1U << count) - 1U, p);
  }
  FOURMI_AVX512_INLINE __m512i load_across(const bfloat16* p, std::int64_t stride, std::int64_t rows, __mmask16 mask) {
    const __m512i even = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p));
    if (rows < 2) return even;
    const __m512i odd = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p + stride));
    return _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
  }
};

/// What a tile does with its finished chains instead of storing them.
struct Tail {
  enum class Kind : std::uint8_t { chains, to_bf16, to_f32 };
  Kind kind = Kind::chains;
  std::byte* out = nullptr;             ///< of the tile's first element
  const std::byte* residual = nullptr;  ///< to_f32: what is added, or null
  std::int64_t row_stride = 0;          ///< bytes
  std::uint32_t present = 0;            ///< columns, one bit each
};

/// chains[R][32] += a b over the steps; V vectors of each row are wanted.
template <class Type, int R, int V>
FOURMI_AVX512 [[gnu::noinline]] void tile(const std::byte* a, std::int64_t a_row, std::int64_t a_step, const Word* b,
                                          std::int64_t steps, float* chains, bool first, const Tail& tail) {
  __m512 c[R][V];
#pragma GCC unroll 12
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) {
      if (first)
        c[i][j] = _mm512_setzero_ps();
      else
        c[i][j] = _mm512_loadu_ps(chains + i * width_b + j * 16);
    }
  const std::byte* quarter[4] = {a, a + 3 * a_row, a + 6 * a_row, a + 9 * a_row};
  for (std::int64_t s = 0; s < steps; ++s, b += width_b) {
    __m512i column[V];
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) column[j] = _mm512_loadu_si512(b + j * 16);
#pragma GCC unroll 12
    for (int i = 0; i < R; ++i) {
      Word word;
      std::memcpy(&word, quarter[i / 3] + (i % 3) * a_row, sizeof(word));
      const __m512i x = _mm512_set1_epi32(static_cast<int>(word));
#pragma GCC unroll 2
      for (int j = 0; j < V; ++j) c[i][j] = Type::multiply_add(x, column[j], c[i][j]);
    }
#pragma GCC unroll 4
    for (int q = 0; q < (R + 2) / 3; ++q) quarter[q] += a_step;
  }
  const auto present = [&](int j) { return static_cast<__mmask16>(tail.present >> (16 * j)); };
  if (tail.kind == Tail::Kind::to_bf16) {
    // The instruction takes denormals as zero; vdpbf16ps leaves none.
#pragma GCC unroll 12
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < V; ++j)
        _mm256_mask_storeu_epi16(tail.out + i * tail.row_stride + j * 32, present(j),
                                 reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(c[i][j])));
  } else if (tail.kind == Tail::Kind::to_f32) {
#pragma GCC unroll 12
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < V; ++j) {
        const std::int64_t at = i * tail.row_stride + j * 64;
        if (tail.residual) c[i][j] = _mm512_add_ps(_mm512_maskz_loadu_ps(present(j), tail.residual + at), c[i][j]);
        _mm512_mask_storeu_ps(tail.out + at, present(j), c[i][j]);
      }
  } else {
#pragma GCC unroll 12
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < V; ++j) _mm512_storeu_ps(chains + i * width_b + j * 16, c[i][j]);
  }
}

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
FOURMI_AVX512 void finish_tile(const Output& out, std::int64_t row, std::int64_t col, std::int64_t rows,
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
FOURMI_AVX512 void finish_exact_tile(const Output& out, std::int64_t row, std::int64_t col, std::int64_t rows,
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

template <class Type>
struct Kernel {
  using Input = typename Type::Input;
  using Unit = Word;
  using Acc = float;
  static constexpr std::int64_t tile_rows = most_rows, tile_cols = width_b, block_elements = 256 * Type::per_word;
  static std::int64_t steps(std::int64_t n) { return divide_up(n, Type::per_word); }
  static bool reads_in_place(std::int64_t n) { return n % Type::per_word == 0; }

  static void pack_rows(const Input* src, std::int64_t stride, std::int64_t rows, std::int64_t n, Word* dst) {
    for (std::int64_t i = 0; i < rows; ++i, src += stride, dst += steps(n)) {
      dst[steps(n) - 1] = 0;  // the padding of an odd count
      std::memcpy(dst, src, static_cast<std::size_t>(n) * sizeof(Input));
    }
  }

  FOURMI_AVX512 static void pack_transposed(const Input* src, std::int64_t stride, std::int64_t cols, std::int64_t n,
                                            Word* dst) {
    for (std::int64_t j = 0; j < cols; j += 16)  // a second vector without columns is never read
      for (std::int64_t s = 0; s < n; s += 16 * Type::per_word) {
        __m512i rows[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i)
          rows[i] = j + i < cols ? Type::load_row(src + (j + i) * stride + s, n - s) : _mm512_setzero_si512();
        transpose(rows, steps(n - s), dst + steps(s) * width_b + j);
      }
  }

  template <std::int64_t width>
  FOURMI_AVX512 static void pack_strided(const Input* src, std::int64_t stride, std::int64_t cols, std::int64_t n,
                                         Word* dst) {
    const Word present = static_cast<Word>((1ULL << cols) - 1);
    constexpr auto stored = static_cast<__mmask16>(width < 16 ? (1U << width) - 1U : 0xffffU);
    for (std::int64_t s = 0; s < n; s += Type::per_word, src += Type::per_word * stride, dst += width)
#pragma GCC unroll 2
      for (std::int64_t j = 0; j < width; j += 16)
        _mm512_mask_storeu_epi32(dst + j, stored,
                                 Type::load_across(src + j, stride, n - s, static_cast<__mmask16>(present >> j)));
  }

  static void finish(const Output& out, std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols,
                     const float* chains) {
    if (out.dtype == DType::bf16)
      finish_tile<true>(out, row, col, rows, cols, chains);
    else if (out.dtype == DType::f32)
      finish_tile<false>(out, row, col, rows, cols, chains);
    else
      finish_exact_tile(out, row, col, rows, cols, chains);
  }

  /// Can a tile finish its own chains? Sums with a bf16 residual may be denormal, exact sums are a matter of their own.
  static bool finishes(const Output& out) {
    return out.dtype == DType::f32 || (out.dtype == DType::bf16 && Type::per_word == 2 && !out.residual);
  }

  static void multiply_and_finish(const Output& out, std::int64_t row, std::int64_t col, std::int64_t rows,
                                  std::int64_t cols, const std::byte* a, std::int64_t a_row, std::int64_t a_step,
                                  const Word* b, std::int64_t steps, float* chains, bool first) {
    const std::int64_t size = size_of(out.dtype), at = (row * out.row_stride + col) * size;
    const Tail tail{out.dtype == DType::bf16 ? Tail::Kind::to_bf16 : Tail::Kind::to_f32, out.data + at,
                    out.residual ? out.residual + at : nullptr, out.row_stride * size,
                    static_cast<std::uint32_t>((std::uint64_t{1} << cols) - 1)};
    run_tile(rows, cols, a, a_row, a_step, b, steps, chains, first, tail);
  }

  static void multiply(std::int64_t rows, std::int64_t cols, const std::byte* a, std::int64_t a_row,
                       std::int64_t a_step, const Word* b, std::int64_t steps, float* chains, bool first) {
    run_tile(rows, cols, a, a_row, a_step, b, steps, chains, first, {});
  }

 private:
  static void run_tile(std::int64_t rows, std::int64_t cols, const std::byte* a, std::int64_t a_row,
                       std::int64_t a_step, const Word* b, std::int64_t steps, float* chains, bool first,
                       const Tail& tail) {
    using Run =
        void (*)(const std::byte*, std::int64_t, std::int64_t, const Word*, std::int64_t, float*, bool, const Tail&);
    static constexpr auto tiles = []<int... R>(std::integer_sequence<int, R...>) {
      return std::array<std::array<Run, 2>, most_rows>{{{tile<Type, R + 1, 1>, tile<Type, R + 1, 2>}...}};
    }
    (std::make_integer_sequence<int, most_rows>{});
    tiles[static_cast<std::size_t>(rows - 1)][cols > 16](a, a_row, a_step, b, steps, chains, first, tail);
  }
};

}  // namespace

template <class T>
void run_avx512(const Stream& stream, const Problem& problem) {
  run_blocked<Kernel<std::conditional_t<std::is_same_v<T, float>, Float, Bfloat16>>>(stream, problem);
}

template void run_avx512<float>(const Stream&, const Problem&);
template void run_avx512<bfloat16>(const Stream&, const Problem&);

}  // namespace fourmi::linear
