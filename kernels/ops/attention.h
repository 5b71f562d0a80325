// Causal attention over packed documents, blockwise with an online softmax (Dao 2022), never T x T in memory.
//
// Shapes   Mq query rows, Mk key rows, H heads, G key/value heads (H % G == 0, query head h reads h / (H/G)),
//   Q key head size, V value head size (they may differ).
// Row i attends to key rows [key_begin[i], key_end[i]) (i32, absolute rows of k; both non-decreasing). Rows of other
//   sequences and documents are simply outside of the range. An empty range gives o = 0 and lse = -infinity.
// Blocks   keys are taken in absolute blocks of `block` rows, ascending; a fully masked block is an exact identity.
//   Which rows share a call never changes a row's bits as long as sequences start at multiples of `block`.
// Precision   bf16 inputs enter exactly; scores, softmax and all sums in the accumulator dtype; o, dq, dk, dv rounded
// once.
//   Scores are one fma chain ascending over Q, then * scale. Backward: dq ascending over key blocks (chain over keys
//   inside); dk and dv: one partial per query block (a chain over the group's heads ascending, inside a head over the
//   block's rows ascending), partials added in ascending order of query blocks, or by a tree (`query_leaves`). In bf16
//   chains go in pairs, and probabilities and their gradients are rounded to bf16 as factors. docs/numerics.md
//   "Attention" has every step.
// Dtypes   q, k, v, do one of f64 f32 bf16; o, dq, dk, dv that dtype or its accumulator's (a part that is added to
//   others before it is rounded); the o that backward reads is the rounded one.
//
// A sequence over ranks (context parallelism). With all keys on every rank, a rank calls with its rows as queries; its
//   dk and dv are parts that tree_sum joins (`query_leaves`). In a ring, a rank meets the keys chunk by chunk:
//   attention_merge joins the chunks' outputs; backward, given the joint o and lse, needs no more than a chunk at a
//   time, and dq is the sum over chunks.
#pragma once

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// Rows that are whole documents, one behind another from the first row to the last: each row sees its document's rows
/// from the first to itself, and queries and keys are the same rows.
struct PackedDocuments {
  std::int64_t count = 0;    ///< 0: nothing is known of the ranges. Else so many or fewer
  std::int64_t longest = 0;  ///< rows that none has more of
};

struct Attention {
  double scale = 1;         ///< multiplies q k^T
  std::int64_t block = 64;  ///< rows per key block and per query block
  /// Rows of a sequence, where known: no row sees more keys. Threads then keep memory for that many from the first call
  /// on, however short its documents are.
  std::int64_t sequence = 0;
  /// Above 0: dk and dv are perfect binary trees over the query blocks of a sequence, neighbours first, of which this
  /// call has so many (a power of two). The call's rows are then whole runs of query_leaves * block rows, one a
  /// sequence, and the keys are cut evenly among the runs; rows see keys of their own run alone. A rank with an aligned
  /// run of a sequence's query blocks writes its subtree in the accumulator dtype: tree_sum over ranks is the whole.
  std::int64_t query_leaves = 0;
  /// What ranges are, where the host knows: the ranges still decide, but a library that does not read them can be
  /// asked.
  PackedDocuments documents{};
};

/// lse [Mq, H]: log of the softmax denominator, accumulator dtype; needed by backward.
void attention_forward(const Stream&, const Attention&, const Tensor& q_MHQ, const Tensor& k_MGQ, const Tensor& v_MGV,
                       const Tensor& key_begin_M, const Tensor& key_end_M, const Tensor& o_MHV, const Tensor& lse_MH);

/// Joins attention over two disjoint sets of keys: o and lse become those of both together. All in the accumulator
/// dtype, unrounded. A part that saw no key (lse of -infinity) changes nothing.
void attention_merge(const Stream&, const Tensor& other_o_MHV, const Tensor& other_lse_MH, const Tensor& o_MHV,
                     const Tensor& lse_MH);

/// Writes (does not add to) dq, dk, dv. Key rows that no query sees get zero.
void attention_backward(const Stream&, const Attention&, const Tensor& q_MHQ, const Tensor& k_MGQ, const Tensor& v_MGV,
                        const Tensor& key_begin_M, const Tensor& key_end_M, const Tensor& o_MHV, const Tensor& lse_MH,
                        const Tensor& do_MHV, const Tensor& dq_MHQ, const Tensor& dk_MGQ, const Tensor& dv_MGV);

}  // namespace fourmi
