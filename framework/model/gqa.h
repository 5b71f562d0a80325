// Grouped-query attention (Ainslie et al. 2023), as the Llama, Qwen and Mixtral families have it: H query heads share G
// key and value heads. Pre-norm and residual included: y = x + o_proj(attention(input_layernorm(x))). By family: biases
// on the projections, RMSNorm of every query and key head before the rotation (Qwen3), a sliding window of keys.
//   Letters beside context.h's: H query heads   G key/value heads   Q head_dim   A = (H + 2 G) Q columns of the joined
//   projection. The tensor axis cuts the heads: H and G are those that this rank holds. The context axis may gather
//   keys and values.
#pragma once

#include <optional>

#include "framework/model/context.h"
#include "framework/model/sequence_attention.h"
#include "kernels/ops/gqa_assemble.h"
#include "kernels/ops/rms_norm.h"

namespace fourmi {

class Gqa {
 public:
  Gqa(const ModelSection& model, const ParameterStore& store, std::int64_t layer);

  struct Sizes {
    BatchSizes batch;
    ModelTypes types;
    std::int64_t D, H, G, Q;
    bool head_norm;  ///< queries and keys are normalised head by head
    std::int64_t A() const { return (H + 2 * G) * Q; }
    AttentionSizes attention() const { return {batch, types, H, G, Q, Q}; }
  };
  Sizes sizes(const BatchSizes& batch, const ModelTypes& types) const;

  struct Saved {
    Tensor xn_mD, x_rstd_m, all_xn_MD, a_MA, head_rstd_MN, query_MHQ, key_MGQ, value_MGQ, o_MHQ, lse_MH;
    Tensor all_key_NGQ, all_value_NGQ;  // of whole sequences, where ranks share these
    Tensor operand_MO;                  // o as products read it, where that is another dtype
    SequenceForward sequence;
    const Tensor& keys() const { return all_key_NGQ ? all_key_NGQ : key_MGQ; }
    const Tensor& values() const { return all_value_NGQ ? all_value_NGQ : value_MGQ; }
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      const std::int64_t M = s.batch.rows;
      const DType act = s.types.activation, acc = s.types.accumulate;
      const DType operand = s.types.operand;
      visit(xn_mD, "xn", Shape{s.batch.shard_rows(), s.D}, operand, Keep::recomputable);
      visit(x_rstd_m, "x_rstd", Shape{s.batch.shard_rows()}, acc, Keep::recomputable);
      if (s.batch.tensor > 1) visit(all_xn_MD, "all_xn", Shape{M, s.D}, operand, Keep::recomputable);
      visit(a_MA, "a", Shape{M, s.A()}, act, Keep::needed);
      if (s.head_norm) visit(head_rstd_MN, "head_rstd", Shape{M, s.H + s.G}, acc, Keep::recomputable);
      visit(query_MHQ, "query", Shape{M, s.H, s.Q}, act, Keep::recomputable);
      const bool shared = s.batch.gathers_keys();  // then backward reads everybody's
      visit(key_MGQ, "key", Shape{M, s.G, s.Q}, act, shared ? Keep::temporary : Keep::recomputable);
      visit(value_MGQ, "value", Shape{M, s.G, s.Q}, act, shared ? Keep::temporary : Keep::recomputable);
      if (shared) {
        visit(all_key_NGQ, "all_key", Shape{s.batch.key_rows(), s.G, s.Q}, act, Keep::recomputable);
        visit(all_value_NGQ, "all_value", Shape{s.batch.key_rows(), s.G, s.Q}, act, Keep::recomputable);
      }
      sequence.fields(s.attention(), visit);
      visit(o_MHQ, "o", Shape{M, s.H, s.Q}, act, Keep::needed);
      if (s.types.scaled()) visit(operand_MO, "operand", Shape{M, s.H * s.Q}, operand, Keep::temporary);
      visit(lse_MH, "lse", Shape{M, s.H}, acc, Keep::needed);
    }
  };
  /// Written by backward_input, read by backward_weight.
  struct Gradients {
    Tensor all_dy_MD, do_MHQ, dquery_MHQ, dkey_MGQ, dvalue_MGQ, da_MA, dxn_mD;
    Tensor dy_mD, a_operand_MA, o_operand_MO;  // dy, da and o alike
    SequenceBackward sequence;
    const Tensor& dy(const Tensor& own_mD) const { return all_dy_MD ? all_dy_MD : dy_mD ? dy_mD : own_mD; }
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      const std::int64_t M = s.batch.rows;
      const DType act = s.types.activation;
      if (s.batch.tensor > 1) visit(all_dy_MD, "all_dy", Shape{M, s.D}, s.types.operand, Keep::needed);
      if (s.types.scaled()) {
        visit(dy_mD, "dy", Shape{s.batch.shard_rows(), s.D}, s.types.operand, Keep::needed);
        visit(a_operand_MA, "da_operand", Shape{M, s.A()}, s.types.operand, Keep::needed);
        visit(o_operand_MO, "o_operand", Shape{M, s.H * s.Q}, s.types.operand, Keep::needed);
      }
      visit(do_MHQ, "do", Shape{M, s.H, s.Q}, act, Keep::needed);
      visit(dquery_MHQ, "dquery", Shape{M, s.H, s.Q}, act, Keep::needed);
      visit(dkey_MGQ, "dkey", Shape{M, s.G, s.Q}, act, Keep::needed);
      visit(dvalue_MGQ, "dvalue", Shape{M, s.G, s.Q}, act, Keep::needed);
      visit(da_MA, "da", Shape{M, s.A()}, act, Keep::needed);
      visit(dxn_mD, "dxn", Shape{s.batch.shard_rows(), s.D}, act, Keep::needed);
      sequence.fields(s.attention(), visit);
    }
  };

  void forward(const Context&, const Tensor& x_mD, Saved&, const Tensor& y_mD) const;
  /// The norm, queries, keys and values again, from x and a.
  void recompute(const Context&, const Tensor& x_mD, Saved&) const;
  /// dx = dy + gradient through the attention branch.
  /// What is done while every rank's dy, and while partial sums of gradients travel.
  void backward_input(const Context&, const Tensor& x_mD, const Saved&, const Tensor& dy_mD, Gradients&,
                      const Tensor& dx_mD, const Meanwhile& gathering = {}, const Meanwhile& summing = {}) const;
  void backward_weight(const Context&, const Tensor& x_mD, const Saved&, const Tensor& dy_mD, const Gradients&) const;
  /// The two parts of backward_weight: of what is known when `summing` is called, and the rest.
  void backward_weight_early(const Context&, const Saved&, const Tensor& dy_mD, const Gradients&) const;
  void backward_weight_late(const Context&, const Tensor& x_mD, const Saved&, const Gradients&) const;

  /// forward's pieces, which recompute and decoding use alone.
  void project(const Context&, const Tensor& x_mD, Saved&) const;  ///< fills xn, a
  void assemble(const Context&, Saved&) const;  ///< a into query, key, value; every rank's keys and values
  Attention attention(const Context&) const;
  /// `own` makes the own rows of o, where they are not there yet.
  void output(const Context&, const Tensor& x_mD, const Tensor& o_MHQ, const Tensor& y_mD,
              const Meanwhile& own = {}) const;

  std::int64_t window() const { return window_; }  ///< keys that a query sees at most; 0: all

 private:
  void normalise(const Context&, const Tensor& x_mD, const Saved&) const;
  GqaAssemble assembly(std::int64_t head_leaves = 1) const;
  HeadNorm head_norm(const Context&, const Tensor& rstd_MN) const;  ///< empty where the family has none
  Tensor key_begin(const Context&) const;

  std::int64_t D_, H_, G_, Q_, window_;
  double epsilon_, scale_;
  RmsNorm x_norm_;
  Slot norm_, qkv_, o_;
  std::optional<Slot> qkv_bias_, o_bias_, q_norm_, k_norm_;
};

}  // namespace fourmi
