// Sixteen rows of four columns in a lane, on their way from scales of rows to scales of columns. For .cu files.
//
// Two ways. By the definition: d = element * s, new element = e4m3(d / s'), in f32. Or where a warp's scales are powers
// of two within 2^15 of one another, in halves, two elements an instruction: d / s_max is then exact, because elements
// are multiples of 2^-9 and halves of 2^-24; d / s' = d / s_max * (s_max / s') is exact too where s_max / s' <= 2^15,
// unless it is below 2^-20, where element and half both round to 0. So both ways give the same bits.
#pragma once

#include "kernels/cuda/quantize_elements.h"

namespace fourmi::cuda {

inline constexpr int rows_of_lane = 16;
using Sixteen = Vector<std::uint32_t, 4>;  ///< bytes; or a word for each of a lane's columns

/// Four columns of each row; from the `valid`-th on zeros. All lanes of a warp call it.
__device__ inline void take_words(const std::uint8_t* from, std::int64_t stride, int valid,
                                  std::uint32_t (&words)[rows_of_lane]) {
  if (__all_sync(all_lanes, valid >= rows_of_lane)) {
#pragma unroll
    for (int i = 0; i < rows_of_lane; ++i, from += stride) words[i] = *reinterpret_cast<const std::uint32_t*>(from);
  } else {
#pragma unroll
    for (int i = 0; i < rows_of_lane; ++i, from += stride)
      words[i] = i < valid ? *reinterpret_cast<const std::uint32_t*>(from) : 0;
  }
}

/// 2^(exponent - 127), exponent 1 to 254.
__device__ inline float power_of_two(int exponent) {
  return __uint_as_float(static_cast<std::uint32_t>(exponent) << 23);
}

/// The scales of a warp's rows in 128 columns: one for each row, or of mx one for each 32 columns.
template <bool mx>
class RowScales {
 public:
  static constexpr int blocks = mx ? 4 : 1;
  struct Shared {
    float scale[rows_of_lane][blocks];
    std::uint32_t factor[rows_of_lane][blocks];  ///< scale / the largest of them, as halves; where they are near
  };

  /// Row i's are the four bytes at scales + i * stride, or fewer: `present` blocks. Rows from the `valid`-th on have
  /// none. All lanes call it; `shared` is the warp's.
  __device__ RowScales(const std::uint8_t* scales, std::int64_t stride, int valid, int present, Shared& shared)
      : shared_(shared), lane_block_(mx ? static_cast<int>(threadIdx.x) % warp_size / 8 : 0) {
    const int row = static_cast<int>(threadIdx.x) % rows_of_lane;
    std::uint32_t bits[blocks] = {}, ends[blocks];
    if (row < valid) {
      const std::uint8_t* const at = scales + row * stride;
      if constexpr (mx) {
#pragma unroll
        for (int b = 0; b < blocks; ++b)
          if (b < present) bits[b] = __float_as_uint(static_cast<float>(float8_e8m0::from_bits(at[b])));
      } else {
        bits[0] = load_four(at);
      }
    }
    // The largest exponent, and 255 less the least; a scale that is no power of two is far from all.
#pragma unroll
    for (int b = 0; b < blocks; ++b) {
      const std::uint32_t exponent = bits[b] >> 23;
      const bool fits = (bits[b] & 0x7fffffu) == 0 && exponent - 1 < 253;  // 1 / scale is one too
      ends[b] = row < valid && b < present ? (fits ? exponent | (255 - exponent) << 16 : 0x00ff00ffu) : 0;
#pragma unroll
      for (int step = rows_of_lane / 2; step > 0; step /= 2)
        ends[b] = __vmaxu2(ends[b], __shfl_xor_sync(all_lanes, ends[b], step));
      near_ = near_ && (ends[b] & 0xffff) + (ends[b] >> 16) <= 255 + 15;
      if (b == lane_block_) largest_ = static_cast<int>(ends[b] & 0xffff);
      if (static_cast<int>(threadIdx.x) % warp_size < rows_of_lane) {
        shared.scale[row][b] = __uint_as_float(bits[b]);
        const float factor = __uint_as_float(bits[b]) * power_of_two(254 - static_cast<int>(ends[b] & 0xffff));
        shared.factor[row][b] = halves_of_floats(factor, factor);
      }
    }
    __syncwarp();
  }

  /// Of the lane's columns.
  __device__ float scale(int row) const {
    return shared_.scale[row][lane_block_];
  }
  /// Are all of them powers of two, and near? Equal in all lanes. Then there are:
  __device__ bool near() const {
    return near_;
  }
  __device__ std::uint32_t factor(int row) const {
    return shared_.factor[row][lane_block_];
  }
  __device__ float largest() const {
    return power_of_two(largest_);
  }

 private:
  const Shared& shared_;
  int lane_block_, largest_ = 0;
  bool near_ = true;
};

/// Bits of the largest magnitudes of a lane's columns.
template <bool mx>
__device__ Sixteen largest_values(const RowScales<mx>& scales, const std::uint32_t (&words)[rows_of_lane]) {
  Sixteen most{};
#pragma unroll
  for (int i = 0; i < rows_of_lane; ++i) {
    float v[4];
    four_of_e4m3(words[i] & 0x7f7f7f7fu, v);  // no signs: scales have none
#pragma unroll
    for (int k = 0; k < 4; ++k) most.value[k] = max(most.value[k], __float_as_uint(v[k] * scales.scale(i)));
  }
  return most;
}
/// The same of scales that are near.
template <bool mx>
__device__ Sixteen largest_halves(const RowScales<mx>& scales, const std::uint32_t (&words)[rows_of_lane]) {
  std::uint32_t most[2] = {};
#pragma unroll
  for (int i = 0; i < rows_of_lane; ++i) {
    const std::uint32_t magnitudes = words[i] & 0x7f7f7f7fu;
#pragma unroll
    for (int half = 0; half < 2; ++half)
      most[half] =
          larger_halves(most[half], multiply_halves(halves_of_e4m3(magnitudes >> (16 * half)), scales.factor(i)));
  }
  float v[4];
  floats_of_halves(most[0], v[0], v[1]);
  floats_of_halves(most[1], v[2], v[3]);
  Sixteen bits;
#pragma unroll
  for (int k = 0; k < 4; ++k) bits.value[k] = __float_as_uint(v[k] * scales.largest());
  return bits;
}
/// Bits of the largest scale, four times.
template <bool mx>
__device__ Sixteen largest_scale(const RowScales<mx>& scales, int valid) {
  std::uint32_t most = 0;
#pragma unroll
  for (int i = 0; i < rows_of_lane; ++i)
    if (i < valid) most = max(most, __float_as_uint(scales.scale(i)));
  return {most, most, most, most};
}

/// New elements in the places of the old, by the scales of the lane's columns; adds to `lossy` what changed its value.
template <bool counts, bool mx>
__device__ void encode_words(const RowScales<mx>& scales, const Vector<float, 4>& scale,
                             const Vector<float, 4>& inverse, std::uint32_t (&words)[rows_of_lane], int (&lossy)[4]) {
#pragma unroll
  for (int i = 0; i < rows_of_lane; ++i) {
    float d[4];
    four_of_e4m3(words[i], d);
#pragma unroll
    for (int k = 0; k < 4; ++k) d[k] *= scales.scale(i);
    words[i] = e4m3_of_four(d[0] * inverse.value[0], d[1] * inverse.value[1], d[2] * inverse.value[2],
                            d[3] * inverse.value[3]);
    if constexpr (counts) {
      float again[4];
      four_of_e4m3(words[i], again);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const float value = again[k] * scale.value[k];
        lossy[k] += value < d[k] || value > d[k];
      }
    }
  }
}
/// The same of scales that are near, by powers of two. False, and nothing done, where a factor is too large for halves;
/// in all lanes.
template <bool mx>
__device__ bool encode_halves(const RowScales<mx>& scales, const Vector<float, 4>& inverse,
                              std::uint32_t (&words)[rows_of_lane]) {
  float factors[4];
  bool fits = true;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    factors[k] = inverse.value[k] * scales.largest();  // NaN of a scale that is: so all elements are
    fits = fits && !(factors[k] > 0x1p15f);
  }
  if (!__all_sync(all_lanes, fits)) return false;
  const std::uint32_t low = halves_of_floats(factors[0], factors[1]), high = halves_of_floats(factors[2], factors[3]);
#pragma unroll
  for (int i = 0; i < rows_of_lane; ++i) {
    const std::uint32_t factor = scales.factor(i);
    const std::uint32_t first = multiply_halves(halves_of_e4m3(words[i]), factor);
    const std::uint32_t second = multiply_halves(halves_of_e4m3(words[i] >> 16), factor);
    words[i] = e4m3_of_halves(multiply_halves(first, low)) | e4m3_of_halves(multiply_halves(second, high)) << 16;
  }
  return true;
}

}  // namespace fourmi::cuda
