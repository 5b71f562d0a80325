// Linear maps, AVX-512: a microkernel of 12 rows by two vectors of 16. Its unit is 32 bits: one f32, or a pair of bf16
// for vdpbf16ps, so that both dtypes share packing and tiles. Only functions marked so are compiled for AVX-512.
#include <array>
#include <cstring>
#include <utility>

#include "kernels/cpu/linear_blocked.h"
#include "kernels/cpu/linear_tile_avx512.h"

namespace fourmi::linear {
namespace {

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
    finish_chains(out, row, col, rows, cols, chains);
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
