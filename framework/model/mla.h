// Multi-head latent attention (DeepSeek-V2 report 2.1; exact order of operations: DeepSeek-V3's released model),
// pre-norm and residual included: y = x + o_proj(attention(input_layernorm(x))). With and without a query latent.
#pragma once

#include <vector>

#include "framework/model/context.h"
#include "framework/model/fields.h"
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
    std::int64_t q_width() const {
      return q_rank > 0 ? q_rank : H * Q();
    }  ///< columns of the down projection before the latent
    std::int64_t A() const { return q_width() + kv_rank + rope; }
  };
  Sizes sizes(const BatchSizes& batch, const ModelTypes& types) const;

  struct Saved {
    Tensor xn_MD, x_rstd_M, a_MA, qn_MQr, q_rstd_M, q_MHQ, cn_MKr, c_rstd_M, kv_MHC, query_MHQ, key_MHQ, value_MHV,
        o_MHV, lse_MH;
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      const std::int64_t M = s.batch.rows;
      const DType act = s.types.activation, acc = s.types.accumulate;
      visit(xn_MD, "xn", Shape{M, s.D}, act, Keep::recomputable);
      visit(x_rstd_M, "x_rstd", Shape{M}, acc, Keep::recomputable);
      visit(a_MA, "a", Shape{M, s.A()}, act, Keep::needed);
      if (s.q_rank > 0) {
        visit(qn_MQr, "qn", Shape{M, s.q_rank}, act, Keep::recomputable);
        visit(q_rstd_M, "q_rstd", Shape{M}, acc, Keep::recomputable);
        visit(q_MHQ, "q", Shape{M, s.H * s.Q()}, act, Keep::temporary);
      }
      visit(cn_MKr, "cn", Shape{M, s.kv_rank}, act, Keep::recomputable);
      visit(c_rstd_M, "c_rstd", Shape{M}, acc, Keep::recomputable);
      visit(kv_MHC, "kv", Shape{M, s.H, s.nope + s.V}, act, Keep::temporary);
      visit(query_MHQ, "query", Shape{M, s.H, s.Q()}, act, Keep::recomputable);
      visit(key_MHQ, "key", Shape{M, s.H, s.Q()}, act, Keep::recomputable);
      visit(value_MHV, "value", Shape{M, s.H, s.V}, act, Keep::recomputable);
      visit(o_MHV, "o", Shape{M, s.H, s.V}, act, Keep::needed);
      visit(lse_MH, "lse", Shape{M, s.H}, acc, Keep::needed);
    }
  };
  /// Written by backward_input, read by backward_weight.
  struct Gradients {
    Tensor do_MHV, dquery_MHQ, dkey_MHQ, dvalue_MHV, dq_MHQ, dkv_MHC, dqn_MQr, dcn_MKr, da_MA, dxn_MD;
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      const std::int64_t M = s.batch.rows;
      const DType act = s.types.activation;
      visit(do_MHV, "do", Shape{M, s.H, s.V}, act, Keep::needed);
      visit(dquery_MHQ, "dquery", Shape{M, s.H, s.Q()}, act, Keep::needed);
      visit(dkey_MHQ, "dkey", Shape{M, s.H, s.Q()}, act, Keep::needed);
      visit(dvalue_MHV, "dvalue", Shape{M, s.H, s.V}, act, Keep::needed);
      visit(dkv_MHC, "dkv", Shape{M, s.H, s.nope + s.V}, act, Keep::needed);
      if (s.q_rank > 0) {
        visit(dq_MHQ, "dq", Shape{M, s.H * s.Q()}, act, Keep::needed);
        visit(dqn_MQr, "dqn", Shape{M, s.q_rank}, act, Keep::needed);
      }
      visit(dcn_MKr, "dcn", Shape{M, s.kv_rank}, act, Keep::needed);
      visit(da_MA, "da", Shape{M, s.A()}, act, Keep::needed);
      visit(dxn_MD, "dxn", Shape{M, s.D}, act, Keep::needed);
    }
  };

  void forward(const Context&, const Tensor& x_MD, Saved&, const Tensor& y_MD) const;
  /// The recomputable fields again, from x and the needed ones: norms, up-projections, rotary.
  void recompute(const Context&, const Tensor& x_MD, Saved&) const;
  /// dx = dy + gradient through the attention branch.
  void backward_input(const Context&, const Tensor& x_MD, const Saved&, const Tensor& dy_MD, Gradients&,
                      const Tensor& dx_MD) const;
  void backward_weight(const Context&, const Tensor& x_MD, const Saved&, const Tensor& dy_MD, const Gradients&) const;

  // For decoding with a cache (decode.h): the pieces before and after attention.
  void project(const Context&, const Tensor& x_MD,
               Saved&) const;  ///< fills a, query's projection and the normalised latent
  void expand_latent(const Context&, const Tensor& cn_MKr, const Tensor& kv_MHC) const;
  Attention attention(const Context&) const;
  MlaAssemble assembly() const;
  void output(const Context&, const Tensor& x_MD, const Tensor& o_MHV, const Tensor& y_MD) const;

 private:
  void normalise_input(const Context&, const Tensor& x_MD, Saved&) const;
  void normalise_latents(const Context&, Saved&) const;  ///< and the query's up-projection
  void assemble(const Context&, Saved&) const;           ///< key and value up-projection, rotary, heads
  const Tensor& query_source(const Saved& s) const { return q_rank_ > 0 ? s.q_MHQ : s.a_MA; }

  std::int64_t D_, H_, nope_, rope_, V_, q_rank_, kv_rank_;
  double epsilon_, scale_;
  RmsNorm x_norm_, q_norm_, c_norm_;
  Slot norm_, down_, q_a_norm_, q_b_, kv_a_norm_, kv_b_, o_;
};

}  // namespace fourmi
