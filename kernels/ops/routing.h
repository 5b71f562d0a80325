// Expert routing (DeepSeek-V3 report 2.1.2 and 2.1.3; V2: softmax, greedy) and the sequence-wise balance loss.
//
// Shapes   M tokens, E experts, K chosen experts a token, S sequences of T tokens (M = S * T).
// Everything is in the accumulator dtype (f32; f64 in fp64 runs). Ties go to the lower id. The K chosen experts of a
// token are listed in ascending id, and every sum over them runs in that order. Group mask is -infinity (DeepSeek's
// code).
#pragma once

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

enum class Scoring : std::uint8_t { sigmoid, softmax };
/// How groups are ranked when n_group > 1: V3 (noaux_tc) by the sum of the two best biased scores, V2 by the best one.
enum class GroupScore : std::uint8_t { top2_sum, max };

struct Routing {
  Scoring scoring = Scoring::sigmoid;
  GroupScore group_score = GroupScore::top2_sum;
  std::int64_t num_groups = 1, topk_group = 1;
  bool normalise = true;        ///< norm_topk_prob: w /= sum(w) + 1e-20
  double scaling_factor = 1.0;  ///< routed_scaling_factor
};

/// scores_ME = sigmoid or softmax of logits; experts_MK (i32, ascending per token) by scores + bias under the group
/// limit; weights_MK from the unbiased scores. bias_E may be absent (no correction).
void routing_forward(const Stream&, const Routing&, const Tensor& logits_ME, const Tensor& bias_E,
                     const Tensor& scores_ME, const Tensor& experts_MK, const Tensor& weights_MK);

/// dlogits_ME from dweights_MK and, where given, dscores_ME (the balance loss's dense gradient): through normalisation,
/// scaling and scoring. No gradient through the selection or the bias.
void routing_backward(const Stream&, const Routing&, const Tensor& dweights_MK, const Tensor& scores_ME,
                      const Tensor& experts_MK, const Tensor& dscores_ME, const Tensor& dlogits_ME);

/// Sequence-wise balance loss of each sequence: coefficient * sum_e f_e P_e, with f from the unbiased top-K of the
/// scores and P from scores normalised over experts (report eq. 17-20). `loss_S` holds the loss times T (gradients are
/// those of sums over tokens); dscores_ME its gradient, scaled alike. Sums over tokens: a tree over 16 blocks of T/16
/// tokens, ascending inside (docs/numerics.md L4); T that 16 does not divide: one ascending chain.
void balance_loss(const Stream&, double coefficient, std::int64_t tokens_per_sequence, std::int64_t num_chosen,
                  const Tensor& scores_ME, const Tensor& loss_S, const Tensor& dscores_ME);

/// The balance loss where ranks hold parts of a sequence, in two calls with an exchange in between; balance_loss is
/// both in one. Blocks are those of its tree: T / 16 tokens, or the whole sequence where 16 does not divide T. Partials
/// of the rows held here, B whole blocks one after another: counts_BE (i32), how many of a block's tokens have expert e
/// among the `num_chosen` best unbiased scores; sums_BE, the ascending sum of its normalised scores.
void balance_partials(const Stream&, std::int64_t num_chosen, std::int64_t tokens_per_block, const Tensor& scores_ME,
                      const Tensor& counts_BE, const Tensor& sums_BE);
/// From the partials of all blocks of S sequences (in order, sequence after sequence): loss_S, and dscores of the rows
/// held here, of which each sequence has M / S.
void balance_finish(const Stream&, double coefficient, std::int64_t tokens_per_sequence, std::int64_t num_chosen,
                    const Tensor& counts_BE, const Tensor& sums_BE, const Tensor& scores_ME, const Tensor& loss_S,
                    const Tensor& dscores_ME);

/// counts_E (i64) += how many of the M*K choices fell on each expert.
void count_choices(const Stream&, const Tensor& experts_MK, const Tensor& counts_E);

}  // namespace fourmi
