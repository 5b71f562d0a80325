#include "framework/model/gqa.h"

#include "framework/model/family.h"
#include "framework/model/rope.h"
#include "kernels/ops/bias.h"

namespace fourmi {

Gqa::Gqa(const ModelSection& m, const ParameterStore& store, std::int64_t layer)
    : D_(m.hidden_size),
      H_(m.num_attention_heads),
      G_(m.num_key_value_heads),
      Q_(m.head_dim),
      window_(attention_window(m, layer)),
      epsilon_(m.rms_norm_eps),
      scale_(softmax_scale(m)),
      x_norm_{.epsilon = m.rms_norm_eps} {
  const std::string p = layer_prefix(layer) + "self_attn.";
  const std::int64_t A = (H_ + 2 * G_) * Q_;
  norm_ = store.slot(layer_prefix(layer) + "input_layernorm.weight");
  qkv_ = store.slot(p + "q_proj.weight", p + "v_proj.weight", {A, D_});
  if (has_qkv_bias(m)) qkv_bias_ = store.slot(p + "q_proj.bias", p + "v_proj.bias", {A});
  if (has_head_norm(m)) {
    q_norm_ = store.slot(p + "q_norm.weight");
    k_norm_ = store.slot(p + "k_norm.weight");
  }
  o_ = store.slot(p + "o_proj.weight");
  if (has_output_bias(m)) o_bias_ = store.slot(p + "o_proj.bias");
}

Gqa::Sizes Gqa::sizes(const BatchSizes& batch, const ModelTypes& types) const {
  return {batch, types, D_, H_, G_, Q_, q_norm_.has_value()};
}

GqaAssemble Gqa::assembly() const {
  return {.num_heads = H_, .num_key_heads = G_, .head_dim = Q_, .epsilon = epsilon_};
}

HeadNorm Gqa::head_norm(const Context& c, const Tensor& rstd_MN) const {
  if (!q_norm_) return {};
  return {c.weight(*q_norm_), c.weight(*k_norm_), rstd_MN};
}

Attention Gqa::attention(const Context& c) const {
  return {.scale = scale_, .block = c.attention_block, .sequence = c.sizes.tokens_per_sequence};
}

Tensor Gqa::key_begin(const Context& c) const {
  return window_ > 0 ? c.window_begin : c.key_begin;
}

void Gqa::project(const Context& c, const Tensor& x_MD, Saved& s) const {
  rms_norm_forward(*c.stream, x_norm_, x_MD, c.weight(norm_), s.xn_MD, s.x_rstd_M);
  linear_forward(*c.stream, s.xn_MD, c.weight(qkv_), s.a_MA);
  if (qkv_bias_) bias_add(*c.stream, c.weight(*qkv_bias_), s.a_MA);
}

void Gqa::assemble(const Context& c, Saved& s) const {
  gqa_assemble_forward(*c.stream, assembly(), c.rotary_table, c.positions, s.a_MA, head_norm(c, s.head_rstd_MN),
                       s.query_MHQ, s.key_MGQ, s.value_MGQ);
}

void Gqa::output(const Context& c, const Tensor& x_MD, const Tensor& o_MHQ, const Tensor& y_MD) const {
  linear_forward(*c.stream, o_MHQ.view({o_MHQ.dim(0), H_ * Q_}), c.weight(o_), y_MD, x_MD);
  if (o_bias_) bias_add(*c.stream, c.weight(*o_bias_), y_MD);
}

void Gqa::forward(const Context& c, const Tensor& x_MD, Saved& s, const Tensor& y_MD) const {
  project(c, x_MD, s);
  assemble(c, s);
  attention_forward(*c.stream, attention(c), s.query_MHQ, s.key_MGQ, s.value_MGQ, key_begin(c), c.key_end, s.o_MHQ,
                    s.lse_MH);
  output(c, x_MD, s.o_MHQ, y_MD);
}

void Gqa::recompute(const Context& c, const Tensor& x_MD, Saved& s) const {
  rms_norm_forward(*c.stream, x_norm_, x_MD, c.weight(norm_), s.xn_MD, s.x_rstd_M);
  assemble(c, s);
}

void Gqa::backward_input(const Context& c, const Tensor& x_MD, const Saved& s, const Tensor& dy_MD, Gradients& g,
                         const Tensor& dx_MD) const {
  const Stream& stream = *c.stream;
  const std::int64_t M = x_MD.dim(0);
  linear_backward_input(stream, dy_MD, c.weight(o_), g.do_MHQ.view({M, H_ * Q_}));
  attention_backward(stream, attention(c), s.query_MHQ, s.key_MGQ, s.value_MGQ, key_begin(c), c.key_end, s.o_MHQ,
                     s.lse_MH, g.do_MHQ, g.dquery_MHQ, g.dkey_MGQ, g.dvalue_MGQ);
  gqa_assemble_backward_input(stream, assembly(), c.rotary_table, c.positions, g.dquery_MHQ, g.dkey_MGQ, g.dvalue_MGQ,
                              s.a_MA, head_norm(c, s.head_rstd_MN), g.da_MA);
  linear_backward_input(stream, g.da_MA, c.weight(qkv_), g.dxn_MD);
  rms_norm_backward_input(stream, x_norm_, g.dxn_MD, x_MD, c.weight(norm_), s.x_rstd_M, dx_MD, dy_MD);
}

void Gqa::backward_weight(const Context& c, const Tensor& x_MD, const Saved& s, const Tensor& dy_MD,
                          const Gradients& g) const {
  const Stream& stream = *c.stream;
  const std::int64_t M = x_MD.dim(0);
  linear_backward_weight(stream, dy_MD, s.o_MHQ.view({M, H_ * Q_}), c.gradient(o_), c.weight_cuts);
  if (o_bias_) bias_backward(stream, dy_MD, c.gradient(*o_bias_), c.token_cuts);
  if (q_norm_)
    gqa_assemble_backward_weight(stream, assembly(), c.rotary_table, c.positions, g.dquery_MHQ, g.dkey_MGQ, s.a_MA,
                                 s.head_rstd_MN, c.gradient(*q_norm_), c.gradient(*k_norm_), c.token_cuts);
  linear_backward_weight(stream, g.da_MA, s.xn_MD, c.gradient(qkv_), c.weight_cuts);
  if (qkv_bias_) bias_backward(stream, g.da_MA, c.gradient(*qkv_bias_), c.token_cuts);
  rms_norm_backward_weight(stream, x_norm_, g.dxn_MD, x_MD, s.x_rstd_M, c.gradient(norm_), c.token_cuts);
}

}  // namespace fourmi
