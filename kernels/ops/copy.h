// Bytes from one tensor to another, as they are: between places too, once a device has memory of its own.
#pragma once

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// dst = src; same dtype and number of elements, no overlap.
void copy(const Stream&, const Tensor& src, const Tensor& dst);
/// Columns [dst_column, dst_column + count) of dst_MB = columns from src_column on of src_MA; same dtype, no overlap.
/// Of rows with scales whole blocks, which their scales go with.
void copy_columns(const Stream&, const Tensor& src_MA, std::int64_t src_column, const Tensor& dst_MB,
                  std::int64_t dst_column, std::int64_t count);

}  // namespace fourmi
