// Sliding-window attention: row i sees the last `window` keys of its range, itself among them.
#pragma once

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// begin_M[i] = max(key_begin[i], key_end[i] - window). All [M] i32; non-decreasing where the inputs are.
void window_key_begin(const Stream&, std::int64_t window, const Tensor& key_begin_M, const Tensor& key_end_M,
                      const Tensor& begin_M);

}  // namespace fourmi
