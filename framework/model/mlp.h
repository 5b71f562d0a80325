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
    Tensor kept_M2F;  // in a dtype with scales of gate_up what backward reads
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      if (s.batch.tensor > 1) visit(all_x_MD, "all_x", Shape{s.batch.rows, s.D}, s.types.operand, Keep::recomputable);
      const bool scaled = s.types.scaled();
      const Shape both{s.batch.rows, 2 * s.F};
      visit(gate_up_M2F, "gate_up", both, s.types.activation, scaled ? Keep::temporary : Keep::needed);
      visit(h_MF, "h", Shape{s.batch.rows, s.F}, s.types.operand, scaled ? Keep::temporary : Keep::recomputable);
      if (scaled) visit(kept_M2F, "kept", both, s.types.operand, Keep::needed);
    }
  };
  struct Gradients {
    Tensor all_dy_MD, dh_MF, dgate_up_M2F;
    Tensor dy_mD;  // dy as products read it, where that is another dtype
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      if (s.types.scaled()) visit(dy_mD, "dy", Shape{s.batch.shard_rows(), s.D}, s.types.operand, Keep::needed);
      if (s.batch.tensor > 1) visit(all_dy_MD, "all_dy", Shape{s.batch.rows, s.D}, s.types.operand, Keep::needed);
      visit(dh_MF, "dh", Shape{s.batch.rows, s.F}, s.types.activation, Keep::needed);
      visit(dgate_up_M2F, "dgate_up", Shape{s.batch.rows, 2 * s.F}, s.types.operand, Keep::needed);
    }
    /// Every row, as products read it.
    const Tensor& dy(const Tensor& own_mD) const { return all_dy_MD ? all_dy_MD : dy_mD ? dy_mD : own_mD; }
  };

  /// x as products read it (products.h). `leaves` of the intermediate columns that this rank holds (Context::leaves).
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

  /// Gate and up projection, which read x.
  const Slot& gate_up() const { return gate_up_; }

 private:
  std::int64_t D_, F_;
  Slot gate_up_, down_;
};

}  // namespace fourmi
