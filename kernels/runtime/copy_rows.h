// Rows from one buffer to another inside a larger transfer, whose time and whose span they are part of: where a device
// is, in its stream's order. (What is timed by itself is the operation, kernels/ops/copy.h.)
#pragma once

#include <cstring>

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// `n` rows of `row_bytes` each, from row `from_row` of `from` to row `to_row` of `to`; of any dtype, no overlap.
inline void copy_rows(const Stream& stream, const Tensor& from, std::int64_t from_row, const Tensor& to,
                      std::int64_t to_row, std::int64_t n, std::int64_t row_bytes) {
  const auto* const source = static_cast<const std::byte*>(from.data) + from_row * row_bytes;
  auto* const target = static_cast<std::byte*>(to.data) + to_row * row_bytes;
  if (n == 0 || row_bytes == 0) return;
  if (stream.device())
    stream.device()->copy(target, source, n * row_bytes);
  else
    std::memcpy(target, source, static_cast<std::size_t>(n * row_bytes));
}

}  // namespace fourmi
