// Bytes from one tensor to another, as they are: between places too, once a device has memory of its own.
#pragma once

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// dst = src; same dtype and number of elements, no overlap.
void copy(const Stream&, const Tensor& src, const Tensor& dst);

}  // namespace fourmi
