// How far a student's distribution over the vocabulary is from a teacher's, row by row, as distillation learns it
// (Hinton et al. 2015; Agarwal et al. 2023 "On-Policy Distillation of Language Models", section 3). Both models' logits
// are there for one chunk of rows, and their columns may be cut over ranks: partial sums here, the group's maxima and
// sums in between (kernels/ops/cross_entropy.h), finish here.
//
//   p = softmax(teacher / t), q = softmax(student / t), m = beta p + (1 - beta) q, each loss times t^2, so that its
//   gradient does not fade as t grows:
//     forward_kl       sum p log(p / q)                                     d/dstudent = t (q - p)
//     reverse_kl       sum q log(q / p)                                     t q (log(q / p) - mean)
//     jensen_shannon   beta sum p log(p / m) + (1 - beta) sum q log(q / m)  t (1 - beta) q (log(q / m) - mean)
//   where mean is the same logarithm's mean under q. A column that has no probability adds nothing.
//
// Shapes   C rows of a chunk, V vocabulary columns held here, L leaves of the vocabulary.
// Dtypes   logits f32 (f64), both models' alike; what is a row's in the same dtype; dlogits f64 f32 or bf16.
// Devices  the CPU; on a stream of a device they throw Error(environment).
// Order    sums by lanes over each leaf's columns (docs/numerics.md "Lane sums"), which tree_sum then joins.
#pragma once

#include <cstdint>

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

struct Divergence {
  enum class Kind : std::uint8_t { forward_kl, reverse_kl, jensen_shannon };
  Kind kind = Kind::forward_kl;
  double beta = 0.5;       ///< of jensen_shannon: the teacher's share of the mixture, between 0 and 1
  double temperature = 1;  ///< above 0
};

/// Rows whose softmax at a temperature t is known: exp((logit - max) / t) / sum.
struct TemperedRows {
  Tensor logits_CV, max_C, sum_C;
};

/// Row-wise, given the global max: the sum of exp((logit - max) / temperature) over each of `leaves` equal runs of the
/// held columns, leaf after leaf.
void tempered_sum(const Stream&, double temperature, const Tensor& logits_CV, const Tensor& max_C, const Tensor& sum_LC,
                  std::int64_t leaves = 1);

/// Of each row and leaf: its part of the loss, without t^2, and of the mean that the gradient subtracts (forward_kl:
/// 0).
void divergence_sums(const Stream&, const Divergence&, const TemperedRows& student, const TemperedRows& teacher,
                     const Tensor& loss_LC, const Tensor& mean_LC, std::int64_t leaves = 1);

/// In place of a target: the row has a divergence, but no next token to be held against.
inline constexpr std::int32_t divergence_alone = -2;

/// Given the sums over the whole vocabulary: divergence_C = t^2 loss, 0 in rows without a target (-1). dlogits_CV
/// (where given) = weight ((1 - share) (softmax - onehot) + share d divergence), zero rows without a target, and
/// without the first term where the target is divergence_alone; softmax is the student's at temperature 1, of which
/// plain_sum_C is the sum. `first`: the global id of the first column. dlogits may be the memory of the student's
/// logits if the dtype is the same.
struct DivergenceRows {
  Tensor loss_C, mean_C, plain_sum_C, targets_C;
};
void divergence_finish(const Stream&, const Divergence&, double weight, double share, const TemperedRows& student,
                       const TemperedRows& teacher, const DivergenceRows& rows, std::int64_t first,
                       const Tensor& divergence_C, const Tensor& dlogits_CV = {});

}  // namespace fourmi
