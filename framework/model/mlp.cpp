#include "framework/model/mlp.h"

#include "framework/model/cut_linear.h"
#include "framework/model/products.h"

namespace fourmi {

Mlp::Mlp(const ParameterStore& store, const std::string& prefix) : down_(store.slot(prefix + "down_proj.weight")) {
  D_ = down_.shape[0];
  F_ = down_.shape[1];
  gate_up_ = store.slot(prefix + "gate_proj.weight", prefix + "up_proj.weight", {2 * F_, D_});
}

void Mlp::forward(const Context& c, std::int64_t leaves, const Tensor& x_mD, Saved& s, const Tensor& y_mD,
                  const Tensor& residual_mD) const {
  const OwningSpan span(c.stream->timeline(), Work::feed_forward, "mlp_forward");
  recompute(c, x_mD, s, Recompute::full);
  sum_of_linear(c, s.h_MF, c.matrix(down_), leaves, y_mD, residual_mD);
}

void Mlp::recompute(const Context& c, const Tensor& x_mD, Saved& s, Recompute mode) const {
  const bool full = mode == Recompute::full;
  const Tensor x_MD =
      full ? linear_of_gathered(c, x_mD, s.all_x_MD, c.matrix(gate_up_), s.gate_up_M2F) : gathered(c, x_mD, s.all_x_MD);
  if (full)
    keep_scaled(c, s.gate_up_M2F, s.kept_M2F);
  else if (s.kept_M2F)
    return;
  swiglu_operand(c, s.gate_up_M2F, s.h_MF, x_MD.dim(0), down_);
}

void Mlp::backward_input(const Context& c, std::int64_t leaves, const Saved& s, const Tensor& dy_mD, Gradients& g,
                         const Tensor& dx_mD, const Meanwhile& gathering, const Meanwhile& summing) const {
  const Tensor dy_MD = gathered(c, gradient_operand(c, dy_mD, g.dy_mD, down_), g.all_dy_MD, gathering);
  const OwningSpan span(c.stream->timeline(), Work::feed_forward, "mlp_backward_input");
  input_gradient(c, dy_MD, down_, g.dh_MF);
  restore_gate_up(c, s.kept_M2F, s.gate_up_M2F, dy_MD.dim(0));
  swiglu_gradient_operand(c, g.dh_MF, s.gate_up_M2F, g.dgate_up_M2F, dy_MD.dim(0), gate_up_);
  sum_of_linears_backward(c, g.dgate_up_M2F, gate_up_, {F_, F_}, leaves, dx_mD, summing);
}

void Mlp::backward_weight_down(const Context& c, const Saved& s, const Tensor& dy_mD, const Gradients& g) const {
  const OwningSpan span(c.stream->timeline(), Work::feed_forward, "mlp_backward_weight");
  restore_swiglu(c, s.kept_M2F, s.gate_up_M2F, s.h_MF, s.h_MF.dim(0), down_);
  weight_gradient(c, g.dy(dy_mD), s.h_MF, down_);
}

void Mlp::backward_weight_gate_up(const Context& c, const Tensor& x_mD, const Saved& s, const Gradients& g) const {
  const OwningSpan span(c.stream->timeline(), Work::feed_forward, "mlp_backward_weight");
  const Tensor& x_MD = s.all_x_MD ? s.all_x_MD : x_mD;
  weight_gradient(c, g.dgate_up_M2F, x_MD, gate_up_);
}

void Mlp::backward_weight(const Context& c, const Tensor& x_mD, const Saved& s, const Tensor& dy_mD,
                          const Gradients& g) const {
  backward_weight_down(c, s, dy_mD, g);
  backward_weight_gate_up(c, x_mD, s, g);
}

}  // namespace fourmi
