// Where a tensor with scales has its elements and its scales, whichever of the three formats it is in. For kernels that
// read. For .cu files.
#pragma once

#include "kernels/cuda/quantize_elements.h"

namespace fourmi::cuda {

struct ScaledLayout {
  static constexpr int block = ScaledFormat::block;
  const std::uint8_t* data = nullptr;
  int K = 0;
  bool mx = false, panels = false;
  std::int64_t stride = 0;  ///< bytes from row to row
  // of panels
  std::uint32_t N = 0;
  std::int64_t panel_scale_bytes = 0, matrix_bytes = 0;

  /// Bytes of a row and its first scale, which may lie at any address.
  struct Row {
    const std::uint8_t *elements, *scales;
  };
  __device__ Row row(std::int64_t r) const {
    if (!panels) return {data + r * stride, data + r * stride + K};
    const auto row = static_cast<std::uint32_t>(r);
    const std::uint32_t matrix = row / N, in = row % N, panel = in / block;
    const std::uint8_t* const first = data + matrix * matrix_bytes + panel * panel_scale_bytes;
    return {first + std::int64_t{in} * K, first + std::int64_t{min(N, (panel + 1) * block)} * K};
  }
  __device__ float scale(const Row& r, int column) const {
    if (mx) return static_cast<float>(float8_e8m0::from_bits(r.scales[column / ScaledFormat::mx_block]));
    return __uint_as_float(load_four(r.scales + 4 * (column / block)));
  }
};

inline ScaledLayout scaled_layout(const Tensor& q) {
  const int rank = q.shape.rank;
  const std::int64_t K = q.dim(rank - 1), rows = num_rows(q);
  ScaledLayout s;
  s.data = reinterpret_cast<const std::uint8_t*>(bytes(q));
  s.mx = q.dtype == DType::mxe4m3_rows;
  s.panels = q.dtype == DType::e4m3_panels;
  FOURMI_CHECK((rank >= 2 || !s.panels) && K < std::int64_t{1} << 31 && rows < std::int64_t{1} << 31, "{} of shape {}",
               name_of(q.dtype), to_string(q.shape));
  s.K = static_cast<int>(K);
  s.stride = s.panels ? K : ScaledFormat::row_bytes(q.dtype, K);
  if (s.panels) {
    s.N = static_cast<std::uint32_t>(q.dim(rank - 2));
    s.panel_scale_bytes = ScaledFormat::panel_scale_bytes(K);
    s.matrix_bytes = ScaledFormat::panel_bytes(s.N, K);
  }
  return s;
}

}  // namespace fourmi::cuda
