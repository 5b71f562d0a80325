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
//   block's rows ascending), partials added in ascending order of query blocks. In bf16 chains go in pairs, and
//   probabilities and their gradients are rounded to bf16 as factors. docs/numerics.md "Attention" has every step.
#pragma once

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

struct Attention {
  double scale = 1;         ///< multiplies q k^T
  std::int64_t block = 64;  ///< rows per key block and per query block
  /// Rows of a sequence, where known: no row sees more keys. Threads then keep memory for that many from the first call
  /// on, however short its documents are.
  std::int64_t sequence = 0;
};

/// lse [Mq, H]: log of the softmax denominator, accumulator dtype; needed by backward.
void attention_forward(const Stream&, const Attention&, const Tensor& q_MHQ, const Tensor& k_MGQ, const Tensor& v_MGV,
                       const Tensor& key_begin_M, const Tensor& key_end_M, const Tensor& o_MHV, const Tensor& lse_MH);

/// Writes (does not add to) dq, dk, dv. Key rows that no query sees get zero.
void attention_backward(const Stream&, const Attention&, const Tensor& q_MHQ, const Tensor& k_MGQ, const Tensor& v_MGV,
                        const Tensor& key_begin_M, const Tensor& key_end_M, const Tensor& o_MHV, const Tensor& lse_MH,
                        const Tensor& do_MHV, const Tensor& dq_MHQ, const Tensor& dk_MGQ, const Tensor& dv_MGV);

}  // namespace fourmi
