// Rows with scales as kernels see them. Sixteen neighbouring lanes hold a group of 128, eight elements each (four lanes
// a group of 32), so that all who produce rows quantise them in registers (scaled_units.h). For .cu files.
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
  FOURMI_CHECK(is_vector_aligned<16>(static_cast<const std::uint8_t*>(q.data), 0),
               "rows with scales begin at multiples of 16 bytes, not at {}", q.data);
  FOURMI_CHECK(scaling.floor >= 0, "a floor of {}", scaling.floor);
  const std::int64_t K = q.dim(q.shape.rank - 1);
  return {
      static_cast<std::uint8_t*>(q.data),          ScaledFormat::row_bytes(q.dtype, K),        static_cast<int>(K), mx,
      mx ? ScaleKind::power_of_two : scaling.kind, std::bit_cast<std::uint32_t>(scaling.floor)};
}

__device__ inline std::uint32_t magnitude_bits(float x) {
  return __float_as_uint(x) & 0x7fffffffu;
}

/// The scale of a row's group, as it was written.
__device__ inline float load_scale(const ScaledRows& q, std::int64_t row, int group) {
  const std::uint8_t* const at = q.data + row * q.stride + q.size + group * q.scale_bytes();
  if (q.mx) return static_cast<float>(float8_e8m0::from_bits(*at));
  if (q.size % 4 == 0) return *reinterpret_cast<const float*>(at);
  return __uint_as_float(at[0] | std::uint32_t{at[1]} << 8 | std::uint32_t{at[2]} << 16 | std::uint32_t{at[3]} << 24);
}

}  // namespace fourmi::cuda
