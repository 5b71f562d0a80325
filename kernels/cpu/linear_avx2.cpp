// Linear maps, AVX2: a microkernel of 6 rows by two vectors for f32 and f64. bf16 is widened to f32 while packing, each
// pair in the order odd, even; then it is the f32 kernel with denormals flushed, which is what vdpbf16ps computes.
#include "kernels/cpu/linear_blocked.h"
#include "kernels/cpu/linear_tile_avx2.h"
#include "kernels/numerics/flush_denormals.h"

namespace fourmi::linear {
namespace {

template <class T>
struct Plain {
  using Input = T;
  using Unit = T;
  using Acc = T;
  static constexpr std::int64_t tile_rows = most_rows, tile_cols = 2 * lanes<T>;
  static constexpr std::int64_t block_elements = 2048 / static_cast<std::int64_t>(sizeof(T)) / 2;
  static std::int64_t steps(std::int64_t n) { return n; }
  static bool reads_in_place(std::int64_t) { return true; }
  static void pack_rows(const T*, std::int64_t, std::int64_t, std::int64_t, T*) {}

  static void pack_transposed(const T* src, std::int64_t stride, std::int64_t cols, std::int64_t n, T* dst) {
    std::int64_t s = 0;
    if constexpr (std::is_same_v<T, float>)
      for (; cols == tile_cols && s + 8 <= n; s += 8)
        for (std::int64_t j = 0; j < tile_cols; j += 8) {
          __m256 rows[8];
          for (int i = 0; i < 8; ++i) rows[i] = load(src + (j + i) * stride + s);
          transpose(rows, dst + s * tile_cols + j);
        }
    for (; s < n; ++s)
      for (std::int64_t j = 0; j < tile_cols; ++j) dst[s * tile_cols + j] = j < cols ? src[j * stride + s] : T{0};
  }

  template <std::int64_t width>
  static void pack_strided(const T* src, std::int64_t stride, std::int64_t cols, std::int64_t n, T* dst) {
    for (std::int64_t s = 0; s < n; ++s, src += stride, dst += width) {
      if (cols == width)
        for (std::int64_t j = 0; j < width; ++j) dst[j] = src[j];
      else
        for (std::int64_t j = 0; j < width; ++j) dst[j] = j < cols ? src[j] : T{0};
    }
  }

  static void multiply(std::int64_t rows, std::int64_t cols, const std::byte* a, std::int64_t a_row,
                       std::int64_t a_step, const T* b, std::int64_t steps, T* chains, bool first) {
    multiply_tile(rows, cols, a, a_row, a_step, b, steps, chains, first);
  }

  static void finish(const Output& out, std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols,
                     const T* chains) {
    linear::finish(out, row, col, rows, cols, chains, tile_cols);
  }
};

/// Eight bf16 widened, each pair in the order odd, even.
inline __m256 load_swapped(const bfloat16* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_shuffle_epi32(_mm256_slli_epi32(wide, 16), 0xb1));
}

struct Widened {
  using Input = bfloat16;
  using Unit = float;
  using Acc = float;
  static constexpr std::int64_t tile_rows = most_rows, tile_cols = 16, block_elements = 256;
  static std::int64_t steps(std::int64_t n) { return (n + 1) / 2 * 2; }
  static bool reads_in_place(std::int64_t) { return false; }
  /// The element that step s takes, or zero where an odd count is padded.
  static float element(const bfloat16* src, std::int64_t stride, std::int64_t s, std::int64_t n) {
    return (s ^ 1) < n ? static_cast<float>(src[(s ^ 1) * stride]) : 0.0F;
  }

  static void pack_rows(const bfloat16* src, std::int64_t stride, std::int64_t rows, std::int64_t n, float* dst) {
    for (std::int64_t i = 0; i < rows; ++i, src += stride, dst += steps(n)) {
      std::int64_t s = 0;
      for (; s + 8 <= n; s += 8) store(dst + s, load_swapped(src + s));
      for (; s < steps(n); ++s) dst[s] = element(src, 1, s, n);
    }
  }

  static void pack_transposed(const bfloat16* src, std::int64_t stride, std::int64_t cols, std::int64_t n, float* dst) {
    std::int64_t s = 0;
    for (; cols == tile_cols && s + 8 <= n; s += 8)
      for (std::int64_t j = 0; j < tile_cols; j += 8) {
        __m256 rows[8];
        for (int i = 0; i < 8; ++i) rows[i] = load_swapped(src + (j + i) * stride + s);
        transpose(rows, dst + s * tile_cols + j);
      }
    for (; s < steps(n); ++s)
      for (std::int64_t j = 0; j < tile_cols; ++j)
        dst[s * tile_cols + j] = j < cols ? element(src + j * stride, 1, s, n) : 0.0F;
  }

  template <std::int64_t width>
  static void pack_strided(const bfloat16* src, std::int64_t stride, std::int64_t cols, std::int64_t n, float* dst) {
    for (std::int64_t s = 0; s < steps(n); ++s, dst += width) {
      const bfloat16* row = src + (s ^ 1) * stride;
      if ((s ^ 1) < n && cols == width)
        for (std::int64_t j = 0; j < width; ++j) dst[j] = static_cast<float>(row[j]);
      else
        for (std::int64_t j = 0; j < width; ++j) dst[j] = (s ^ 1) < n && j < cols ? static_cast<float>(row[j]) : 0.0F;
    }
  }

  static void multiply(std::int64_t rows, std::int64_t cols, const std::byte* a, std::int64_t a_row,
                       std::int64_t a_step, const float* b, std::int64_t steps, float* chains, bool first) {
    const FlushDenormals guard;
    Plain<float>::multiply(rows, cols, a, a_row, a_step, b, steps, chains, first);
  }
  static constexpr auto finish = Plain<float>::finish;
};

}  // namespace

template <class T>
void run_avx2(const Stream& stream, const Problem& problem) {
  if constexpr (std::is_same_v<T, bfloat16>)
    run_blocked<Widened>(stream, problem);
  else
    run_blocked<Plain<T>>(stream, problem);
}

template void run_avx2<double>(const Stream&, const Problem&);
template void run_avx2<float>(const Stream&, const Problem&);
template void run_avx2<bfloat16>(const Stream&, const Problem&);

}  // namespace fourmi::linear
