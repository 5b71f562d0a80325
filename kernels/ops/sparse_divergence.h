// How far a student's distribution over the vocabulary is from a teacher's of which some tokens' probabilities are
// known: the likeliest ones and the mass of all others (top-k), or a sample whose expectation is the whole
// distribution. Forward KL alone, which is linear in what the teacher says; both models' columns as divergence.h.
//
//   p_v known for the ids in K, q = softmax(student / t), each loss times t^2.
//   top-k     sum_K p log(p / q) + r log(r / q_rest), r the teacher's mass outside of K, q_rest the student's:
//             d/dstudent_v = t (q_v - p_v) in K and t q_v (1 - r / q_rest) outside, where the mass of K and r are 1.
//             The rest is told how much it has, and keeps the shape that the student gives it.
//   sampled   - sum_K p log q - H, H the entropy of the whole distribution: t (mass of K q_v - p_v). Both are unbiased
//             where E[p] is the teacher's distribution (Anshumann et al. 2025, "Sparse Logit Sampling").
//
// Shapes   C rows of a chunk, V vocabulary columns held here, L leaves of the vocabulary, K tokens known of a row.
// Dtypes   logits f32 (f64); what is a row's in the same dtype, ids i32; dlogits f64 f32 or bf16.
// Devices  the CPU; on a stream of a device they throw Error(environment).
// Order    columns as in divergence.h; tokens of K in their order, each in the leaf that has its column.
#pragma once

#include "kernels/ops/divergence.h"

namespace fourmi {

/// What is known of the teacher's rows. Every rank of the tensor axis has all of it.
struct SparseRows {
  enum class Kind : std::uint8_t { top_k, sampled };
  Kind kind = Kind::top_k;
  Tensor ids_CK;            ///< i32; -1: nothing. No id twice in a row
  Tensor probabilities_CK;  ///< above 0 where there is an id
  Tensor rest_C;            ///< top_k: the mass of all other tokens; sampled: the entropy in nats
};

/// Row-wise, given the global max: the sum of exp((logit - max) / temperature) over the columns of each leaf that are
/// not known. `first`: the global id of the first column. Writes into logits_CV while it works, and leaves it as it
/// was.
void unknown_sum(const Stream&, double temperature, const SparseRows& rows, const Tensor& logits_CV,
                 const Tensor& max_C, std::int64_t first, const Tensor& sum_LC, std::int64_t leaves = 1);

/// Of each row and leaf: - sum p log q over what is known there.
void sparse_divergence_sums(const Stream&, double temperature, const SparseRows& rows, const TemperedRows& student,
                            std::int64_t first, const Tensor& loss_LC, std::int64_t leaves = 1);

/// Given the sums over the whole vocabulary (loss_C; unknown_C: only of top_k): divergence_C and dlogits_CV as
/// divergence_finish, which must not be the memory of the logits.
struct SparseSums {
  Tensor loss_C, unknown_C, plain_sum_C, targets_C;
};
void sparse_divergence_finish(const Stream&, double temperature, double weight, double share, const SparseRows& rows,
                              const TemperedRows& student, const SparseSums& sums, std::int64_t first,
                              const Tensor& divergence_C, const Tensor& dlogits_CV = {});

}  // namespace fourmi
