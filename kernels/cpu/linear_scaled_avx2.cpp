// Products of e4m3 elements, AVX2: elements become f32 while they are packed, each pair in the order odd, even, as in
// linear_avx2.cpp. Chains of one group are formed by its tiles, then promoted. Denormals are flushed for mx alone: no
// other chain meets one.
#include <cstring>

#include "kernels/cpu/linear_scaled_blocked.h"
#include "kernels/cpu/linear_tile_avx2.h"
#include "kernels/numerics/flush_denormals.h"

namespace fourmi::linear {
namespace {

constexpr int sign = 0x80, magnitude = 0x7f;

/// Eight bytes, each widened. The bits of an e4m3, moved to a float's place, are 2^-120 times its value; denormals too.
inline __m256 widen(__m256i bytes) {
  const __m256i m = _mm256_and_si256(bytes, _mm256_set1_epi32(magnitude));
  const __m256 value = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(m, 20)), _mm256_set1_ps(0x1p120F));
  const __m256i nan =
      _mm256_and_si256(_mm256_cmpeq_epi32(m, _mm256_set1_epi32(magnitude)), _mm256_set1_epi32(0x7fc00000));
  const __m256i signs = _mm256_slli_epi32(_mm256_and_si256(bytes, _mm256_set1_epi32(sign)), 24);
  return _mm256_or_ps(value, _mm256_castsi256_ps(_mm256_or_si256(nan, signs)));
}

inline __m128i load_bytes(const std::uint8_t* p) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
}

/// Eight elements of a line, each pair in the order odd, even.
inline __m256 load_swapped(const std::uint8_t* p) {
  return widen(_mm256_shuffle_epi32(_mm256_cvtepu8_epi32(load_bytes(p)), 0xb1));
}

/// All bits of the first `count` lanes.
inline __m256i first_lanes(std::int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

struct Kernel {
  using Unit = float;
  static constexpr std::int64_t tile_rows = most_rows, tile_cols = 2 * lanes<float>, block_elements = 256;
  static std::int64_t steps(std::int64_t n) { return (n + 1) / 2 * 2; }

  /// What step s takes of a line, or zero where an odd count is padded.
  static float element(const std::uint8_t* line, std::int64_t stride, std::int64_t s, std::int64_t n) {
    return (s ^ 1) < n ? static_cast<float>(float8_e4m3::from_bits(line[(s ^ 1) * stride])) : 0.0F;
  }

  template <std::int64_t width, bool transposed, bool scaled>
  static void pack_along(PackSource from, std::int64_t lines, std::int64_t n, const float* scales, float* dst) {
    const auto scale = [&](std::int64_t line, std::int64_t s) {
      return scaled ? scales[s / ScaledFormat::mx_block * width + line] : 1.0F;
    };
    std::int64_t done = 0;  // of the sum, for all lines
    if constexpr (transposed) {
      for (; lines == width && done + 8 <= n; done += 8)
        for (std::int64_t j = 0; j < width; j += 8) {
          __m256 rows[8];
          for (int i = 0; i < 8; ++i)
            rows[i] = _mm256_mul_ps(load_swapped(from.elements + (j + i) * from.stride + done),
                                    _mm256_set1_ps(scale(j + i, done)));
          transpose(rows, dst + done * width + j);
        }
    } else {
      for (; done + 8 <= n; done += 8)
        for (std::int64_t i = 0; i < lines; ++i)
          store(dst + i * steps(n) + done,
                _mm256_mul_ps(load_swapped(from.elements + i * from.stride + done), _mm256_set1_ps(scale(i, done))));
    }
    for (std::int64_t s = done; s < steps(n); ++s)
      for (std::int64_t i = 0; i < (transposed ? width : lines); ++i) {
        const float x = i < lines ? element(from.elements + i * from.stride, 1, s, n) * scale(i, s) : 0.0F;
        dst[transposed ? s * width + i : i * steps(n) + s] = x;
      }
  }

  template <std::int64_t width, bool scaled>
  static void pack_across(PackSource from, std::int64_t lines, std::int64_t n, const float* scales, float* dst) {
    for (std::int64_t s = 0; s < steps(n); ++s, dst += width) {
      const std::uint8_t* row = from.elements + (s ^ 1) * from.stride;
      const std::int64_t present = (s ^ 1) < n ? lines : 0;
      for (std::int64_t j = 0; j < width; j += 8) {
        std::uint64_t bytes = 0;
        if (j + 8 <= present)
          std::memcpy(&bytes, row + j, 8);
        else if (j < present)
          for (std::int64_t i = present - 1; i >= j; --i) bytes = bytes << 8 | row[i];
        __m256 x = widen(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(bytes))));
        const __m256i mask = first_lanes(std::min(present - j, width - j));
        if (scaled) x = _mm256_mul_ps(x, _mm256_maskload_ps(scales + s / ScaledFormat::mx_block * width + j, mask));
        if (width - j >= 8)
          store(dst + j, x);
        else
          _mm256_maskstore_ps(dst + j, first_lanes(width - j), x);
      }
    }
  }

  template <Promotion promotion>
  static void multiply(const PackedTile<float>& t) {
    if constexpr (promotion == Promotion::none) {
      const FlushDenormals guard;
      return multiply_tile(t.rows, t.cols, t.a, t.a_row, t.a_step, t.b, steps(t.count), t.sums, t.first);
    }
    float chains[tile_rows * tile_cols];
    PackedTile<float> left = t;
    for (; left.count > 0; left.count -= ScaledFormat::block) {
      const std::int64_t count = std::min(left.count, ScaledFormat::block);
      multiply_tile(t.rows, t.cols, left.a, t.a_row, t.a_step, left.b, steps(count), chains, true);
      promote<promotion>(left, chains);
      left.a += count * t.a_step, left.b += count * tile_cols;
      left.a_scales += tile_rows, left.b_scales += tile_cols;
      left.first = false;
    }
  }

  static void finish(const Output& out, std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols,
                     const float* chains) {
    linear::finish(out, row, col, rows, cols, chains, tile_cols);
  }

 private:
  template <Promotion promotion>
  static void promote(const PackedTile<float>& t, const float* chains) {
    for (std::int64_t i = 0; i < t.rows; ++i)
      for (std::int64_t j = 0; j < t.cols; j += 8) {
        const __m256 b = promotion == Promotion::by_tile ? broadcast(t.b_scales) : load(t.b_scales + j);
        const __m256 f = _mm256_mul_ps(broadcast(t.a_scales + i), b);
        float* sum = t.sums + i * tile_cols + j;
        store(sum, multiply_add(f, load(chains + i * tile_cols + j), t.first ? __m256{} : load(sum)));
      }
  }
};

}  // namespace

void run_scaled_avx2(const Stream& stream, const ScaledProblem& problem) {
  run_scaled_blocked<Kernel>(stream, problem);
}

}  // namespace fourmi::linear
