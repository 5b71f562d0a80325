#include "framework/model/mlp.h"

#include "kernels/ops/swiglu.h"

namespace fourmi {

Mlp::Mlp(const ParameterStore& store, const std::string& prefix, std::int64_t hidden, std::int64_t intermediate)
    : D_(hidden),
      F_(intermediate),
      gate_up_(store.slot(prefix + "gate_proj.weight", prefix + "up_proj.weight", {2 * intermediate, hidden})),
      down_(store.slot(prefix + "down_proj.weight")) {}

void Mlp::forward(const Context& c, const Tensor& x_MD, Saved& s, const Tensor& y_MD, const Tensor& residual_MD) const {
  const OwningSpan span(c.stream->timeline(), Work::feed_forward, "mlp_forward");
  recompute(c, x_MD, s, Recompute::full);
  linear_forward(*c.stream, s.h_MF, c.weight(down_), y_MD, residual_MD);
}

void Mlp::recompute(const Context& c, const Tensor& x_MD, Saved& s, Recompute mode) const {
  if (mode == Recompute::full) linear_forward(*c.stream, x_MD, c.weight(gate_up_), s.gate_up_M2F);
  swiglu_forward(*c.stream, s.gate_up_M2F, s.h_MF, x_MD.dim(0));
}

void Mlp::backward_input(const Context& c, const Saved& s, const Tensor& dy_MD, Gradients& g,
                         const Tensor& dx_MD) const {
  const OwningSpan span(c.stream->timeline(), Work::feed_forward, "mlp_backward_input");
  linear_backward_input(*c.stream, dy_MD, c.weight(down_), g.dh_MF);
  swiglu_backward(*c.stream, g.dh_MF, s.gate_up_M2F, g.dgate_up_M2F, dy_MD.dim(0));
  linear_backward_input(*c.stream, g.dgate_up_M2F, c.weight(gate_up_), dx_MD);
}

void Mlp::backward_weight(const Context& c, const Tensor& x_MD, const Saved& s, const Tensor& dy_MD,
                          const Gradients& g) const {
  const OwningSpan span(c.stream->timeline(), Work::feed_forward, "mlp_backward_weight");
  linear_backward_weight(*c.stream, dy_MD, s.h_MF, c.gradient(down_), c.weight_cuts);
  linear_backward_weight(*c.stream, g.dgate_up_M2F, x_MD, c.gradient(gate_up_), c.weight_cuts);
}

}  // namespace fourmi
