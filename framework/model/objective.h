// What the output head learns: cross-entropy with the next token, or what is put in its place - a distance to another
// model's distribution. Logits are there for one chunk of rows at a time, and nowhere else.
//   Letters as in head.h: C rows of a chunk   V vocabulary columns held here
#pragma once

#include <functional>

#include "kernels/runtime/tensor.h"

namespace fourmi {

struct Context;

/// A chunk of rows whose softmax is known: p = exp(logit - max) / sum, over the vocabulary of all ranks.
struct HeadChunk {
  std::int64_t first_row = 0;    ///< among the rows of the tensor axis' ranks
  std::int64_t first_token = 0;  ///< of the columns
  bool multi_token = false;      ///< of multi-token prediction's head
  double weight = 1;             ///< of these losses in what gradients are of
  Tensor logits_CV, max_C, sum_C;
  Tensor targets_C, target_logit_C;  ///< i32, -1: the row does not count; its logit, or 0
  Tensor loss_C;                     ///< to be filled: 0 where a row does not count; the same on every rank of the axis
  Tensor dlogits_CV;                 ///< to be filled: gradients of weight * sum(loss); absent in evaluation
};

/// Called once for each chunk, in place of cross_entropy_finish (kernels/ops/cross_entropy.h), in the same order on all
/// ranks of the tensor axis; what it asks of them is by Context::moves().
using Objective = std::function<void(const Context&, const HeadChunk&)>;

}  // namespace fourmi
