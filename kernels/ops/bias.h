// The bias of a linear map, added to what the product has stored.
//
// Shapes   M rows, N columns.   Dtypes   x, dy: one of f64 f32 bf16; bias: accumulator dtype; its gradient: that or
// fx128.
#pragma once

#include "kernels/ops/linear.h"  // Cuts

namespace fourmi {

/// x_MN[m] = x_MN[m] + bias_N in the accumulator dtype, one rounding.
void bias_add(const Stream&, const Tensor& bias_N, const Tensor& x_MN);
/// db_N += the sum over rows of dy (a chain of additions from zero, ascending; Cuts.rows as in linear.h).
void bias_backward(const Stream&, const Tensor& dy_MN, const Tensor& db_N, const Cuts& = {});

}  // namespace fourmi
