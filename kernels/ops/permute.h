// Tokens to expert order and back. Rows are sorted by expert, and by token inside an expert (canonical order).
//
// Shapes   M tokens, K choices a token (ascending expert ids), R <= M*K rows, D hidden, E experts held here.
// Dtypes   rows and tokens f64 f32 bf16; weights in the accumulator dtype; indices i32. What combine_forward and
//   permute_backward write may also be in the accumulator dtype: a rank's part, for tree_sum.
// Absent   a choice of -1 is not held here: it has no row (row_of is -1) and takes part in nothing.
#pragma once

#include <span>

#include "kernels/ops/linear.h"    // max_leaves
#include "kernels/ops/quantize.h"  // Scaling
#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// How a token's sum over its choices is cut (docs/numerics.md L6, "Permute and combine"): leaves of consecutive
/// experts, num_experts / leaves each; inside a leaf the token's choices ascending, from zero; leaves by the tree.
/// Ranks that hold an aligned run of leaves each, with ids from zero, and join their parts by tree_sum give the bits of
/// one rank with all experts. One leaf: a chain over all choices; then nothing else is read.
struct ExpertLeaves {
  std::int64_t leaves = 1;  ///< a power of two up to max_leaves that divides num_experts
  std::int64_t num_experts = 0;
  Tensor experts_MK = {};  ///< as permute_plan had them
};

/// From experts_MK: offsets (E+1 entries: expert e owns rows [offsets[e], offsets[e+1])), row_token_R (token of each
/// row) and row_of_MK (row of each choice). Entries of row_token beyond offsets[E] are not written.
void permute_plan(const Stream&, const Tensor& experts_MK, std::span<std::int32_t> offsets, const Tensor& row_token_R,
                  const Tensor& row_of_MK);

/// rows_RD[r] = x_MD[row_token[r]]. Copies bytes: of any dtype that has rows, those with scales too.
void permute_forward(const Stream&, const Tensor& x_MD, const Tensor& row_token_R, const Tensor& rows_RD);
/// dx_MD[t] = first + second + sum over k (ascending) of drows[row_of[t, k]]: the sum over k in the accumulator dtype
/// from zero, then + first, then + second (each absent or [M, D] of the rows' or the accumulator's dtype; may be dx
/// itself), one rounding.
void permute_backward(const Stream&, const Tensor& drows_RD, const Tensor& row_of_MK, const Tensor& dx_MD,
                      const Tensor& first_MD = {}, const Tensor& second_MD = {}, const ExpertLeaves& = {});

/// y_MD[t] = residual[t] + sum over k (ascending) of weights[t, k] * rows[row_of[t, k]] (fma chain from zero; residual
/// last).
void combine_forward(const Stream&, const Tensor& rows_RD, const Tensor& weights_MK, const Tensor& row_of_MK,
                     const Tensor& y_MD, const Tensor& residual_MD = {}, const ExpertLeaves& = {});
/// drows[row_of[t, k]] = weights[t, k] * dy[t]; dweights[t, k] = <dy[t], rows[row_of[t, k]]> (lane sum over D), 0 for
/// an absent choice.
void combine_backward(const Stream&, const Tensor& dy_MD, const Tensor& rows_RD, const Tensor& weights_MK,
                      const Tensor& row_of_MK, const Tensor& drows_RD, const Tensor& dweights_MK);
/// The same into drows of e4m3_rows or mxe4m3_rows, from weights * dy in f32 (docs/numerics.md "FP8"). rows f32 or
/// bf16; dy of their dtype, or itself with scales: element * scale (f32) then takes its place.
void combine_backward(const Stream&, const Tensor& dy_MD, const Tensor& rows_RD, const Tensor& weights_MK,
                      const Tensor& row_of_MK, const Tensor& drows_RD, const Scaling&, const Tensor& dweights_MK,
                      QuantizeStatistics* = nullptr);

}  // namespace fourmi
