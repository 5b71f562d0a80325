// Multi-head latent attention (DeepSeek-V2 report 2.1; exact order of operations: DeepSeek-V3's released model),
// pre-norm and residual included: y = x + o_proj(attention(input_layernorm(x))). With and without a query latent.
// The tensor axis cuts the heads: H is what this rank holds. Latents are made of this rank's rows, by weights that
// every rank has, and gathered: they are narrower than the hidden state. The context axis may gather the latents too:
// keys and values of whole sequences are made of them on every rank.
//   Letters beside context.h's: S columns that queries are made of   R = rope
#pragma once

#include <vector>

#include "framework/model/context.h"
#include "framework/model/sequence_attention.h"
#include "kernels/ops/rms_norm.h"
#include "kernels/ops/rotary.h"

namespace fourmi {

class Mla {
 public:
  Mla(const ModelSection& model, const ParameterStore& store, std::int64_t layer);

  /// Sizes that Saved and Gradients depend on.
  struct Sizes {
    BatchSizes batch;
    ModelTypes types;
    std::int64_t D, H, nope, rope, V, q_rank, kv_rank;
    std::int64_t Q() const { return nope + rope; }
    std::int64_t A() const { return q_rank + kv_rank + rope; }
    /// With scales what only the down-projection reads is made again by backward (DeepSeek-V3 report 3.2.3).
    bool normalises_again() const { return types.scaled() && q_rank > 0; }
    bool shares_keys() const { return batch.tensor > 1 || batch.gathers_keys(); }
    AttentionSizes attention() const { return {batch, types, H, H, Q(), V}; }
    std::int64_t source() const { return q_rank > 0 ? q_rank : D; }  ///< columns that queries are made of
  };
  Sizes sizes(const BatchSizes& batch, const ModelTypes& types) const;

  struct Saved {
    Tensor xn_mD, x_rstd_m, a_mA, qn_mQr, q_rstd_m, cn_mKr, c_rstd_m;    // of this rank's rows
    Tensor pe_mR, all_source_MS, all_cn_MKr, all_pe_MR;                  // where ranks share the rows
    Tensor keys_cn_NKr, keys_pe_NR;                                      // of whole sequences, where they share these
    Tensor q_MHQ, kv_NHC, query_MHQ, key_NHQ, value_NHV, o_MHV, lse_MH;  // of this rank's heads
    Tensor operand_MO;  // o as products read it, where that is another dtype
    SequenceForward sequence;
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      const std::int64_t M = s.batch.rows, m = s.batch.shard_rows(), N = s.batch.key_rows();
      const DType act = s.types.activation, acc = s.types.accumulate;
      const DType operand = s.types.operand;
      visit(xn_mD, "xn", Shape{m, s.D}, operand, s.normalises_again() ? Keep::temporary : Keep::recomputable);
      visit(x_rstd_m, "x_rstd", Shape{m}, acc, Keep::recomputable);
      visit(a_mA, "a", Shape{m, s.A()}, act, Keep::needed);
      if (s.q_rank > 0) {
        visit(qn_mQr, "qn", Shape{m, s.q_rank}, operand, Keep::recomputable);
        visit(q_rstd_m, "q_rstd", Shape{m}, acc, Keep::recomputable);
      }
      visit(cn_mKr, "cn", Shape{m, s.kv_rank}, operand, Keep::recomputable);
      visit(c_rstd_m, "c_rstd", Shape{m}, acc, Keep::recomputable);
      if (s.shares_keys()) visit(pe_mR, "pe", Shape{m, s.rope}, act, Keep::temporary);
      if (s.batch.tensor > 1) {
        visit(all_source_MS, "all_source", Shape{M, s.source()}, operand, Keep::recomputable);
        visit(all_cn_MKr, "all_cn", Shape{M, s.kv_rank}, operand, Keep::recomputable);
        visit(all_pe_MR, "all_pe", Shape{M, s.rope}, act, Keep::temporary);
      }
      if (s.batch.gathers_keys()) {
        visit(keys_cn_NKr, "keys_cn", Shape{N, s.kv_rank}, operand, Keep::temporary);
        visit(keys_pe_NR, "keys_pe", Shape{N, s.rope}, act, Keep::temporary);
      }
      visit(q_MHQ, "q", Shape{M, s.H * s.Q()}, act, Keep::temporary);
      visit(kv_NHC, "kv", Shape{N, s.H, s.nope + s.V}, act, Keep::temporary);
      visit(query_MHQ, "query", Shape{M, s.H, s.Q()}, act, Keep::recomputable);
      visit(key_NHQ, "key", Shape{N, s.H, s.Q()}, act, Keep::recomputable);
      visit(value_NHV, "value", Shape{N, s.H, s.V}, act, Keep::recomputable);
      sequence.fields(s.attention(), visit);
      visit(o_MHV, "o", Shape{M, s.H, s.V}, act, Keep::needed);
      if (s.types.scaled()) visit(operand_MO, "operand", Shape{M, s.H * s.V}, operand, Keep::temporary);
      visit(lse_MH, "lse", Shape{M, s.H}, acc, Keep::needed);
    }
  };
  /// Written by backward_input, read by backward_weight.
  struct Gradients {
    Tensor all_dy_MD, do_MHV, dquery_MHQ, dkey_MHQ, dvalue_MHV, dq_MHQ, dkv_MHC, dpe_mR, dqn_mQr, dcn_mKr, da_mA,
        dxn_mD;
    Tensor dy_mD, q_operand_MS, kv_operand_MC, a_operand_mA, o_operand_MO;  // dy, dq, dkv, da and o alike
    SequenceBackward sequence;
    const Tensor& dy(const Tensor& own_mD) const { return all_dy_MD ? all_dy_MD : dy_mD ? dy_mD : own_mD; }
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      const std::int64_t M = s.batch.rows, m = s.batch.shard_rows();
      const DType act = s.types.activation;
      if (s.batch.tensor > 1) {
        visit(all_dy_MD, "all_dy", Shape{M, s.D}, s.types.operand, Keep::needed);
        visit(dpe_mR, "dpe", Shape{m, s.rope}, s.types.accumulate, Keep::needed);
      }
      if (s.types.scaled()) {
        const DType operand = s.types.operand;
        visit(dy_mD, "dy", Shape{m, s.D}, operand, Keep::needed);
        visit(q_operand_MS, "dq_operand", Shape{M, s.H * s.Q()}, operand, Keep::needed);
        visit(kv_operand_MC, "dkv_operand", Shape{M, s.H * (s.nope + s.V)}, operand, Keep::needed);
        visit(a_operand_mA, "da_operand", Shape{m, s.A()}, operand, Keep::needed);
        visit(o_operand_MO, "o_operand", Shape{M, s.H * s.V}, operand, Keep::needed);
      }
      visit(do_MHV, "do", Shape{M, s.H, s.V}, act, Keep::needed);
      visit(dquery_MHQ, "dquery", Shape{M, s.H, s.Q()}, act, Keep::needed);
      visit(dkey_MHQ, "dkey", Shape{M, s.H, s.Q()}, act, Keep::needed);
      visit(dvalue_MHV, "dvalue", Shape{M, s.H, s.V}, act, Keep::needed);
      visit(dkv_MHC, "dkv", Shape{M, s.H, s.nope + s.V}, act, Keep::needed);
      visit(dq_MHQ, "dq", Shape{M, s.H * s.Q()}, act, Keep::needed);
      if (s.q_rank > 0) visit(dqn_mQr, "dqn", Shape{m, s.q_rank}, act, Keep::needed);
      visit(dcn_mKr, "dcn", Shape{m, s.kv_rank}, act, Keep::needed);
      visit(da_mA, "da", Shape{m, s.A()}, act, Keep::needed);
      visit(dxn_mD, "dxn", Shape{m, s.D}, act, Keep::needed);
      sequence.fields(s.attention(), visit);
    }
  };

  void forward(const Context&, const Tensor& x_mD, Saved&, const Tensor& y_mD) const;
  /// The recomputable fields again, from x and the needed ones: norms, up-projections, rotary.
  void recompute(const Context&, const Tensor& x_mD, Saved&) const;
  /// dx = dy + gradient through the attention branch.
  /// What is done while every rank's dy, and while partial sums of gradients travel.
  void backward_input(const Context&, const Tensor& x_mD, const Saved&, const Tensor& dy_mD, Gradients&,
                      const Tensor& dx_mD, const Meanwhile& gathering = {}, const Meanwhile& summing = {}) const;
  void backward_weight(const Context&, const Tensor& x_mD, const Saved&, const Tensor& dy_mD, const Gradients&) const;
  /// The two parts of backward_weight: of what is known when `summing` is called, and the rest.
  void backward_weight_early(const Context&, const Saved&, const Tensor& dy_mD, const Gradients&) const;
  void backward_weight_late(const Context&, const Tensor& x_mD, const Saved&, const Gradients&) const;
  /// Of those parts what must not be late: with scales the normalised input is made again, by a weight that ZeRO 3
  /// takes away when the next layer works.
  void backward_weight_down(const Context&, const Tensor& x_mD, const Saved&, const Gradients&) const;

  // For decoding with a cache (decode.h): the pieces before and after attention.
  void project(const Context&, const Tensor& x_mD, Saved&) const;  ///< fills a, queries and the normalised latent
  void expand_latent(const Context&, const Tensor& cn_NKr, const Tensor& kv_NHC) const;
  Attention attention(const Context&) const;
  /// `own` makes the own rows of o, where they are not there yet.
  void output(const Context&, const Tensor& x_mD, const Tensor& o_MHV, const Tensor& y_mD,
              const Meanwhile& own = {}) const;

 private:
  void normalise_input(const Context&, const Tensor& x_mD, const Saved&) const;
  bool normalises_again(const Gradients& g) const { return g.a_operand_mA && q_rank_ > 0; }
  void normalise_latents(const Context&, Saved&) const;
  void project_queries(const Context&, Saved&) const;  ///< after every rank's latents came to all
  void assemble(const Context&, Saved&) const;         ///< key and value up-projection, rotary, heads
  /// Keys and values of the own rows are made while the others' latents travel.
  static bool expands_apart(const Saved& s) { return s.all_pe_MR && !s.keys_cn_NKr; }
  Tensor expanded(const Tensor& kv_NHC) const;  ///< as the product writes it
  MlaAssemble assembly(bool shared_key_apart) const;
  const Tensor& source(const Saved& s) const { return q_rank_ > 0 ? s.qn_mQr : s.xn_mD; }  ///< of queries
  std::int64_t key_column() const { return q_rank_ + kv_rank_; }

  std::int64_t D_, H_, nope_, rope_, V_, q_rank_, kv_rank_, head_leaves_;
  double epsilon_, scale_;
  RmsNorm x_norm_, q_norm_, c_norm_;
  Slot norm_, down_, q_a_norm_, q_, kv_a_norm_, kv_b_, o_;
};

}  // namespace fourmi
