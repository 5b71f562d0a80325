// FP8 products by NVIDIA's library from our operands, to be timed beside ours; no operation calls them.
// kernels/cuda/peers.cpp where CMake's FOURMI_CUDA is on, else kernels/cuda_absent/peers.cpp.
#pragma once

#include <functional>

#include "kernels/ops/column_scaled.h"
#include "kernels/runtime/device.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// Bytes of the device that forward's peer works in.
std::int64_t fp8_peer_bytes(std::int64_t M, std::int64_t N, std::int64_t K);

/// y_MN = x_MK w_NK^T of e4m3_rows and e4m3_panels into bf16 or f32; scratch is u8. What the library wants of the
/// operands beside its product is done here, once. Empty: there is no library, or it does not take the product.
std::function<void()> fp8_forward_peer(DeviceStream& stream, const Tensor& x_MK, const Tensor& w_NK, const Tensor& y_MN,
                                       const Tensor& scratch);
/// dw_NK += dy^T x, of columns in groups of 128 rows. Calls itself once, to know whether the library takes it.
std::function<void()> fp8_gradient_peer(DeviceStream& stream, const ColumnScaled& dy, const ColumnScaled& x,
                                        const Tensor& dw_NK);

}  // namespace fourmi
