#include "kernels/ops/block_scales.h"

#include <algorithm>
#include <cstring>

#include "kernels/runtime/error.h"

namespace fourmi {

namespace {

using Byte = std::uint8_t;

/// Calls move(part of the panels, the same in the file's layout, bytes): a panel's elements, then its scales.
template <class Move>
void visit(const Tensor& panels, const Tensor& weight, const Tensor& scales, const Move& move) {
  FOURMI_CHECK(panels.shape.rank == 2 && panels.dtype == DType::e4m3_panels, "{} of {}, expected panels of a matrix",
               name_of(panels.dtype), to_string(panels.shape));
  const std::int64_t N = panels.dim(0), K = panels.dim(1), blocks = ScaledFormat::num_blocks(K);
  const Shape of_scales{ScaledFormat::num_blocks(N), blocks};
  FOURMI_CHECK(weight.dtype == DType::u8 && weight.shape == panels.shape, "weight {}, expected {}",
               to_string(weight.shape), to_string(panels.shape));
  FOURMI_CHECK(scales.dtype == DType::f32 && scales.shape == of_scales, "weight_scale_inv {}, expected {}",
               to_string(scales.shape), to_string(of_scales));
  for (std::int64_t row = 0; row < N; row += ScaledFormat::block) {
    Byte* panel = static_cast<Byte*>(panels.data) + ScaledFormat::panel_bytes(row, K);
    const std::int64_t elements = std::min(ScaledFormat::block, N - row) * K;
    move(panel, static_cast<Byte*>(weight.data) + row * K, elements);
    move(panel + elements, static_cast<Byte*>(scales.data) + row / ScaledFormat::block * blocks * 4, 4 * blocks);
  }
}

}  // namespace

void panels_to_block_scales(const Tensor& panels, const Tensor& weight, const Tensor& scales) {
  visit(panels, weight, scales, [](const Byte* panel, Byte* file, std::int64_t bytes) {
    std::memcpy(file, panel, static_cast<std::size_t>(bytes));
  });
}

void block_scales_to_panels(const Tensor& weight, const Tensor& scales, const Tensor& panels) {
  std::memset(panels.data, 0, static_cast<std::size_t>(panels.bytes()));  // behind a panel's scales
  visit(panels, weight, scales, [](Byte* panel, const Byte* file, std::int64_t bytes) {
    std::memcpy(panel, file, static_cast<std::size_t>(bytes));
  });
}

}  // namespace fourmi
