// SwiGLU (Shazeer 2020): h = silu(gate) * up, silu(x) = x / (1 + exp(-x)). gate_up rows hold gate then up.
// Dtypes f64 f32 bf16; arithmetic in the accumulator dtype, one rounding. `rows` limits the call to the first rows
// (grouped expert buffers are larger than what was received); rows beyond are neither read nor written. Outputs share
// no memory with inputs.
#pragma once

#include "kernels/ops/quantize.h"  // Scaling
#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

void swiglu_forward(const Stream&, const Tensor& gate_up_R2F, const Tensor& h_RF, std::int64_t rows);
void swiglu_backward(const Stream&, const Tensor& dh_RF, const Tensor& gate_up_R2F, const Tensor& dgate_up_R2F,
                     std::int64_t rows);

/// The same into h (dgate_up) of e4m3_rows or mxe4m3_rows, from the values in f32, not rounded in between
/// (docs/numerics.md "FP8"). Inputs f32 or bf16.
void swiglu_forward(const Stream&, const Tensor& gate_up_R2F, const Tensor& h_RF, const Scaling&, std::int64_t rows,
                    QuantizeStatistics* = nullptr);
void swiglu_backward(const Stream&, const Tensor& dh_RF, const Tensor& gate_up_R2F, const Tensor& dgate_up_R2F,
                     const Scaling&, std::int64_t rows, QuantizeStatistics* = nullptr);

}  // namespace fourmi
