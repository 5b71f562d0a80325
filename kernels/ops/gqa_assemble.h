// Grouped-query attention's operands from its joined projection: each query and key head optionally normalised (RMSNorm
// over the head, one weight for all query heads and one for all key heads: Qwen3), then rotated (half-split pairs);
// values are copied.
//
// Shapes   M rows, H query heads, G key/value heads, Q head size (even), A = (H + 2 G) Q: a row of a_MA holds H query
// heads, then
//   G key heads, then G value heads. rstd_MN: N = H + G, query heads first. table [P, Q/2, 2], positions [M] i32.
// Dtypes   a and the operands: one of f64 f32 bf16; weights and rstd: accumulator dtype; weight gradients: accumulator
// dtype or fx128. Rounding   from a to an operand all arithmetic is in the accumulator dtype with one rounding at the
// end, and so from an operand's
//   gradient to da (docs/numerics.md "Rotary embedding and attention's operands").
#pragma once

#include "kernels/ops/linear.h"  // Cuts

namespace fourmi {

struct GqaAssemble {
  std::int64_t num_heads = 1, num_key_heads = 1, head_dim = 2;
  double epsilon = 1e-6;  ///< of the heads' norms
  /// Leaves of the heads, of queries and of keys alike, in backward_weight: each is a partial of its own, so that in
  /// fx128 heads may be cut over ranks.
  std::int64_t head_leaves = 1;
};

/// Without weights (both absent) there is no norm, and rstd is neither read nor written.
struct HeadNorm {
  Tensor q_weight_Q, k_weight_Q, rstd_MN;
};

void gqa_assemble_forward(const Stream&, const GqaAssemble&, const Tensor& table_PH2, const Tensor& positions_M,
                          const Tensor& a_MA, const HeadNorm&, const Tensor& q_MHQ, const Tensor& k_MGQ,
                          const Tensor& v_MGQ);

/// Writes all of da_MA.
void gqa_assemble_backward_input(const Stream&, const GqaAssemble&, const Tensor& table_PH2, const Tensor& positions_M,
                                 const Tensor& dq_MHQ, const Tensor& dk_MGQ, const Tensor& dv_MGQ, const Tensor& a_MA,
                                 const HeadNorm&, const Tensor& da_MA);

/// dq_weight_Q += the sum over rows and heads (one chain: rows ascending, inside a row heads ascending) of the
/// rotated-back gradient times a * rstd; dk_weight_Q alike. Cuts count rows; of each of their partials every leaf of
/// heads is one, ascending.
void gqa_assemble_backward_weight(const Stream&, const GqaAssemble&, const Tensor& table_PH2, const Tensor& positions_M,
                                  const Tensor& dq_MHQ, const Tensor& dk_MGQ, const Tensor& a_MA, const Tensor& rstd_MN,
                                  const Tensor& dq_weight_Q, const Tensor& dk_weight_Q, const Cuts& = {});

}  // namespace fourmi
