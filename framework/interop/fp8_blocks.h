// Weights in FP8 blocks as DeepSeek-V3 releases them: F8_E4M3 elements, and for each 128 x 128 of them one F32 scale
// that they are multiplied by ("weight_scale_inv"). A weight is read and written in pieces; its scales, one for 16,384
// elements, are in memory as a whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/runtime/tensor.h"

namespace fourmi::interop {

struct BlockScales {
  std::int64_t columns = 0;   ///< of the weight
  std::vector<float> values;  ///< [rows / 128, columns / 128], each rounded up
  std::int64_t row_length() const { return (columns + 127) / 128; }
  float at(std::int64_t row, std::int64_t column) const {
    return values[static_cast<std::size_t>(row / 128 * row_length() + column / 128)];
  }
};

/// Scales that are positive, finite numbers; throws Error(input) at `place` naming `tensor` otherwise.
void check_scales(const BlockScales& scales, const std::string& place, const std::string& tensor);

/// Elements from the weight's `first` on, times their scales. Throws Error(input) at `place` naming `tensor` and
/// element for a NaN, and for a product from which the element and the scale do not give the eight bits back.
void dequantise(std::span<const std::byte> elements, std::int64_t first, const BlockScales& scales,
                std::span<float> out, const std::string& place, const std::string& tensor);

/// Rows from `first_row` (a multiple of 128), divided by their scales and rounded to the nearest.
void quantise(std::span<const float> rows, std::int64_t first_row, const BlockScales& scales, std::span<std::byte> out);

/// The scales of these rows (`rows` begins at a multiple of 128), appended: the block's largest magnitude over 448, 1
/// for a block of zeros.
void append_scales(std::span<const float> rows, BlockScales& scales);

}  // namespace fourmi::interop
