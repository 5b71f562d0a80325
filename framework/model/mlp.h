// The dense feed-forward block SwiGLU: y = residual + down_proj(silu(gate_proj x) * up_proj x). Also the shared expert,
// which is one MLP of n_shared_experts * moe_intermediate_size columns.
// The tensor axis cuts the intermediate columns: F is what this rank holds of them.
#pragma once

#include "framework/model/context.h"
#include "framework/model/fields.h"

namespace fourmi {

class Mlp {
 public:
  /// `prefix` as in "model.layers.0.mlp." or "model.layers.3.mlp.shared_experts."
  Mlp(const ParameterStore& store, const std::string& prefix);

  struct Sizes {
    BatchSizes batch;
    ModelTypes types;
    std::int64_t D, F;
  };
  Sizes sizes(const BatchSizes& batch, const ModelTypes& types) const { return {batch, types, D_, F_}; }

  struct Saved {
    Tensor all_x_MD, gate_up_M2F, h_MF;
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      if (s.batch.tensor > 1)
        visit(all_x_MD, "all_x", Shape{s.batch.rows, s.D}, s.types.activation, Keep::recomputable);
      visit(gate_up_M2F, "gate_up", Shape{s.batch.rows, 2 * s.F}, s.types.activation, Keep::needed);
      visit(h_MF, "h", Shape{s.batch.rows, s.F}, s.types.activation, Keep::recomputable);
    }
  };
  struct Gradients {
    Tensor all_dy_MD, dh_MF, dgate_up_M2F;
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      if (s.batch.tensor > 1) visit(all_dy_MD, "all_dy", Shape{s.batch.rows, s.D}, s.types.activation, Keep::needed);
      visit(dh_MF, "dh", Shape{s.batch.rows, s.F}, s.types.activation, Keep::needed);
      visit(dgate_up_M2F, "dgate_up", Shape{s.batch.rows, 2 * s.F}, s.types.activation, Keep::needed);
    }
  };

  /// `leaves` of the intermediate columns that this rank holds (Context::leaves).
  void forward(const Context&, std::int64_t leaves, const Tensor& x_mD, Saved&, const Tensor& y_mD,
               const Tensor& residual_mD) const;
  /// What backward needs, again: SwiGLU's output, in `full` its input too.
  void recompute(const Context&, const Tensor& x_mD, Saved&, Recompute) const;
  /// What is done while every rank's dy, and while partial sums of dx travel.
  void backward_input(const Context&, std::int64_t leaves, const Saved&, const Tensor& dy_mD, Gradients&,
                      const Tensor& dx_mD, const Meanwhile& gathering = {}, const Meanwhile& summing = {}) const;
  void backward_weight(const Context&, const Tensor& x_mD, const Saved&, const Tensor& dy_mD, const Gradients&) const;
  /// Its two parts, of which the inputs are known when `summing` is called.
  void backward_weight_down(const Context&, const Saved&, const Tensor& dy_mD, const Gradients&) const;
  void backward_weight_gate_up(const Context&, const Tensor& x_mD, const Saved&, const Gradients&) const;

 private:
  std::int64_t D_, F_;
  Slot gate_up_, down_;
};

}  // namespace fourmi
