// Softmax cross-entropy for an output head that is computed in chunks of rows, so that logits are never whole in
// memory, and whose vocabulary may be cut over ranks: partials here, the group's maximum and sum in between, finish
// here.
//
// Shapes   C rows of a chunk, V vocabulary columns held here (global ids [first, first + V)).
// Dtypes   logits f32 (f64); max, sum, target_logit, loss in the same dtype; dlogits f64 f32 or bf16.
// Order    max exact; sum of exp(logit - max) by lanes over V (docs/numerics.md "Lane sums"), or over each of several
//   leaves of the vocabulary, which tree_sum then joins: any rank with whole leaves has the same partials.
#pragma once

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// Row-wise: max_C over the held columns.
void softmax_max(const Stream&, const Tensor& logits_CV, const Tensor& max_C);
/// Columns of the global ids from `vocabulary` on (padding) become -infinity: their probability and gradient are 0.
void mask_padding(const Stream&, std::int64_t first, std::int64_t vocabulary, const Tensor& logits_CV);
/// Row-wise, given the global max: the sum of exp(logit - max) over each of `leaves` equal runs of the held columns,
/// leaf after leaf (sum_LC [leaves, C], or [C] for one leaf); and the target's logit if it is held here (else 0).
/// targets i32, < 0: no target. With several leaves or ranks the row's sum is tree_sum of all leaves' partials in
/// order.
void softmax_sum(const Stream&, const Tensor& logits_CV, const Tensor& max_C, const Tensor& targets_C,
                 std::int64_t first, const Tensor& sum_LC, const Tensor& target_logit_C, std::int64_t leaves = 1);
/// loss_C = log(sum) + max - target_logit (0 without a target); dlogits_CV (where given) = weight * (softmax - onehot),
/// zero rows without a target. dlogits may be the same memory as logits if the dtype is the same.
void cross_entropy_finish(const Stream&, double weight, const Tensor& logits_CV, const Tensor& max_C,
                          const Tensor& sum_C, const Tensor& target_logit_C, const Tensor& targets_C,
                          std::int64_t first, const Tensor& loss_C, const Tensor& dlogits_CV = {});

}  // namespace fourmi
