// Rows with scales, written and read by warps. Sixteen neighbouring lanes hold a group of 128, eight elements each
// (four lanes a group of 32), so that all who produce rows quantise them in registers. Bytes and scales are those of
// the CPU's quantisers on equal values. For .cu files.
#pragma once

#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/numerics/float8.h"
#include "kernels/ops/quantize.h"

namespace fourmi::cuda {

/// Rows of e4m3_rows or mxe4m3_rows, for kernels.
struct ScaledRows {
  std::uint8_t* data = nullptr;
  std::int64_t stride = 0;  ///< bytes from row to row
  int size = 0;             ///< elements of a row
  bool mx = false;
  ScaleKind kind = ScaleKind::f32;
  std::uint32_t floor = 0;  ///< bits

  __host__ __device__ int group() const { return mx ? 32 : 128; }
  __host__ __device__ int num_groups() const { return (size + group() - 1) / group(); }
  __host__ __device__ int scale_bytes() const { return mx ? 1 : 4; }
};

inline ScaledRows scaled_rows(const Tensor& q, const Scaling& scaling) {
  const bool mx = q.dtype == DType::mxe4m3_rows;
  FOURMI_CHECK(q.device == Device::cuda && (mx || q.dtype == DType::e4m3_rows), "rows of {} {}", name_of(q.dtype),
               to_string(q.shape));
  FOURMI_CHECK(scaling.floor >= 0, "a floor of {}", scaling.floor);
  const std::int64_t K = q.dim(q.shape.rank - 1);
  return {
      static_cast<std::uint8_t*>(q.data),          ScaledFormat::row_bytes(q.dtype, K),        static_cast<int>(K), mx,
      mx ? ScaleKind::power_of_two : scaling.kind, std::bit_cast<std::uint32_t>(scaling.floor)};
}

__device__ inline std::uint32_t magnitude_bits(float x) {
  return __float_as_uint(x) & 0x7fffffffu;
}

/// x * inverse to the nearest e4m3, as the CPU rounds; where the group's scale is not finite 0x7f.
__device__ inline std::uint8_t encode(float x, GroupScale s) {
  return s.scale != s.scale ? std::uint8_t{0x7f} : float8_e4m3(x * s.inverse).bits;
}

/// The scale of the group that this lane's eight values are part of: its lanes are all here, with zeros for elements
/// behind the row's end. Every lane of the warp calls it.
__device__ inline GroupScale scale_of_eight(const ScaledRows& q, const float (&v)[8]) {
  std::uint32_t most = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const std::uint32_t bits = magnitude_bits(v[i]);
    most = most > bits ? most : bits;
  }
  most = q.mx ? lane_group_max<4>(most) : lane_group_max<16>(most);
  return scale_of_bits(most > q.floor ? most : q.floor, q.kind);
}

/// Stores elements [column, column + 8) of a row (those below its end), and with the group's first lane its scale.
/// `column` is a multiple of 8; a lane whose column is not below the end stores nothing. Zeros behind the scales are
/// put by the row's last lane.
__device__ inline void store_eight(const ScaledRows& q, std::int64_t row, int column, const float (&v)[8],
                                   GroupScale s) {
  if (column >= q.size) return;
  std::uint8_t* const to = q.data + row * q.stride;
  Vector<std::uint8_t, 8> bytes;
#pragma unroll
  for (int i = 0; i < 8; ++i) bytes.value[i] = encode(v[i], s);
  if (column + 8 <= q.size) {
    store<8>(to + column, bytes);  // rows begin at multiples of 16
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (column + i < q.size) to[column + i] = bytes.value[i];
  }
  const int group = column / q.group();
  if (column % q.group() == 0) {
    std::uint8_t* const at = to + q.size + group * q.scale_bytes();
    const std::uint32_t bits = __float_as_uint(s.scale);
    if (q.mx) {
      *at = static_cast<std::uint8_t>(bits >> 23);  // NaN: 0xff
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) at[i] = static_cast<std::uint8_t>(bits >> (8 * i));
    }
    if (group == q.num_groups() - 1)
      for (std::int64_t i = q.size + q.num_groups() * q.scale_bytes(); i < q.stride; ++i) to[i] = 0;
  }
}

/// Quantises this lane's eight values of a row. Every lane of the warp calls it.
__device__ inline void quantize_eight(const ScaledRows& q, std::int64_t row, int column, const float (&v)[8]) {
  store_eight(q, row, column, v, scale_of_eight(q, v));
}

/// The scale of a row's group, as it was written.
__device__ inline float load_scale(const ScaledRows& q, std::int64_t row, int group) {
  const std::uint8_t* const at = q.data + row * q.stride + q.size + group * q.scale_bytes();
  if (q.mx) return static_cast<float>(float8_e8m0::from_bits(*at));
  if (q.size % 4 == 0) return *reinterpret_cast<const float*>(at);
  return __uint_as_float(at[0] | std::uint32_t{at[1]} << 8 | std::uint32_t{at[2]} << 16 | std::uint32_t{at[3]} << 24);
}

}  // namespace fourmi::cuda
