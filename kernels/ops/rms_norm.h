// RMSNorm: y = weight * x * rstd, rstd = 1 / sqrt(mean(x^2) + epsilon)   (Zhang & Sennrich 2019; DeepSeek-V3
// report 2.1).
//
// Shapes   M rows, D normalised columns. x may be a slice of columns of a wider row [M, A] starting at `x_column`, y
// one of
//   a wider row starting at `y_column`; D is the weight's length. dx and dy follow x and y.
// Dtypes   x, y: one of f64 f32 bf16; weight and rstd: accumulator dtype (f64 for f64, else f32); dw: accumulator dtype
// or fx128. Rounding   all arithmetic in the accumulator dtype; one rounding when y (dx) is stored. Sums over D by
// lanes
//   (docs/numerics.md "Lane sums").
#pragma once

#include "kernels/ops/linear.h"    // Cuts
#include "kernels/ops/quantize.h"  // Scaling

namespace fourmi {

struct RmsNorm {
  double epsilon = 1e-6;
  std::int64_t x_column = 0;
  std::int64_t y_column = 0;
};

void rms_norm_forward(const Stream&, const RmsNorm&, const Tensor& x_MA, const Tensor& weight_D, const Tensor& y_MB,
                      const Tensor& rstd_M);
/// The same into q_MD, e4m3_rows or mxe4m3_rows, from the values in f32, not rounded in between (docs/numerics.md
/// "FP8"). y_MB: absent, or as above. x: f32 or bf16.
void rms_norm_forward(const Stream&, const RmsNorm&, const Tensor& x_MA, const Tensor& weight_D, const Tensor& y_MB,
                      const Tensor& q_MD, const Scaling&, const Tensor& rstd_M, QuantizeStatistics* = nullptr);
/// dx = residual + d(rms_norm)/dx. residual: absent, or [M, A] of x's dtype, may be dx itself. Other columns of dx are
/// not touched.
void rms_norm_backward_input(const Stream&, const RmsNorm&, const Tensor& dy_MB, const Tensor& x_MA,
                             const Tensor& weight_D, const Tensor& rstd_M, const Tensor& dx_MA,
                             const Tensor& residual_MA = {});
/// dw_D += sum over rows of dy * x * rstd, ascending over rows; Cuts.rows = 1 makes each row an own partial.
void rms_norm_backward_weight(const Stream&, const RmsNorm&, const Tensor& dy_MB, const Tensor& x_MA,
                              const Tensor& rstd_M, const Tensor& dw_D, const Cuts& = {});

}  // namespace fourmi
