// Tokens to expert order and back. Rows are sorted by expert, and by token inside an expert (canonical order).
//
// Shapes   M tokens, K choices a token (ascending expert ids), R = M*K rows, D hidden.
// Dtypes   rows and tokens f64 f32 bf16; weights in the accumulator dtype; indices i32.
#pragma once

#include <span>

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// From experts_MK: offsets (E+1 entries: expert e owns rows [offsets[e], offsets[e+1])), row_token_R (token of each
/// row) and row_of_MK (row of each choice).
void permute_plan(const Stream&, const Tensor& experts_MK, std::span<std::int32_t> offsets, const Tensor& row_token_R,
                  const Tensor& row_of_MK);

/// rows_RD[r] = x_MD[row_token[r]]
void permute_forward(const Stream&, const Tensor& x_MD, const Tensor& row_token_R, const Tensor& rows_RD);
/// dx_MD[t] = first + second + sum over k (ascending) of drows[row_of[t, k]]: the sum over k in the accumulator dtype
/// from zero, then + first, then + second (each absent or [M, D] of x's or the accumulator's dtype; may be dx itself),
/// one rounding.
void permute_backward(const Stream&, const Tensor& drows_RD, const Tensor& row_of_MK, const Tensor& dx_MD,
                      const Tensor& first_MD = {}, const Tensor& second_MD = {});

/// y_MD[t] = residual[t] + sum over k (ascending) of weights[t, k] * rows[row_of[t, k]] (fma chain from zero; residual
/// last).
void combine_forward(const Stream&, const Tensor& rows_RD, const Tensor& weights_MK, const Tensor& row_of_MK,
                     const Tensor& y_MD, const Tensor& residual_MD = {});
/// drows[row_of[t, k]] = weights[t, k] * dy[t]; dweights[t, k] = <dy[t], rows[row_of[t, k]]> (lane sum over D).
void combine_backward(const Stream&, const Tensor& dy_MD, const Tensor& rows_RD, const Tensor& weights_MK,
                      const Tensor& row_of_MK, const Tensor& drows_RD, const Tensor& dweights_MK);

}  // namespace fourmi
