// The dense feed-forward block SwiGLU: y = residual + down_proj(silu(gate_proj x) * up_proj x). Also the shared expert,
// which is one MLP of n_shared_experts * moe_intermediate_size columns.
#pragma once

#include "framework/model/context.h"
#include "framework/model/fields.h"

namespace fourmi {

class Mlp {
 public:
  /// `prefix` as in "model.layers.0.mlp." or "model.layers.3.mlp.shared_experts."
  Mlp(const ParameterStore& store, const std::string& prefix, std::int64_t hidden, std::int64_t intermediate);

  struct Sizes {
    BatchSizes batch;
    ModelTypes types;
    std::int64_t D, F;
  };
  Sizes sizes(const BatchSizes& batch, const ModelTypes& types) const { return {batch, types, D_, F_}; }

  struct Saved {
    Tensor gate_up_M2F, h_MF;
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      visit(gate_up_M2F, "gate_up", Shape{s.batch.rows, 2 * s.F}, s.types.activation, Keep::needed);
      visit(h_MF, "h", Shape{s.batch.rows, s.F}, s.types.activation, Keep::recomputable);
    }
  };
  struct Gradients {
    Tensor dh_MF, dgate_up_M2F;
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      visit(dh_MF, "dh", Shape{s.batch.rows, s.F}, s.types.activation, Keep::needed);
      visit(dgate_up_M2F, "dgate_up", Shape{s.batch.rows, 2 * s.F}, s.types.activation, Keep::needed);
    }
  };

  void forward(const Context&, const Tensor& x_MD, Saved&, const Tensor& y_MD, const Tensor& residual_MD) const;
  /// What backward needs, again: SwiGLU's output, in `full` its input too.
  void recompute(const Context&, const Tensor& x_MD, Saved&, Recompute) const;
  void backward_input(const Context&, const Saved&, const Tensor& dy_MD, Gradients&, const Tensor& dx_MD) const;
  void backward_weight(const Context&, const Tensor& x_MD, const Saved&, const Tensor& dy_MD, const Gradients&) const;

 private:
  std::int64_t D_, F_;
  Slot gate_up_, down_;
};

}  // namespace fourmi
