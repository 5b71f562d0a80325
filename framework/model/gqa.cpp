#include "framework/model/gqa.h"

#include "framework/model/cut_linear.h"
#include "framework/model/family.h"
#include "framework/model/products.h"
#include "framework/model/rope.h"
#include "kernels/ops/bias.h"

namespace fourmi {

Gqa::Gqa(const ModelSection& m, const ParameterStore& store, std::int64_t layer)
    : D_(m.hidden_size),
      Q_(m.head_dim),
      window_(attention_window(m, layer)),
      epsilon_(m.rms_norm_eps),
      scale_(softmax_scale(m)),
      x_norm_{.epsilon = m.rms_norm_eps} {
  const std::string p = layer_prefix(layer) + "self_attn.";
  o_ = store.slot(p + "o_proj.weight");
  H_ = o_.shape[1] / Q_;
  G_ = H_ * m.num_key_value_heads / m.num_attention_heads;
  const std::int64_t A = (H_ + 2 * G_) * Q_;
  norm_ = store.slot(layer_prefix(layer) + "input_layernorm.weight");
  qkv_ = store.slot(p + "q_proj.weight", p + "v_proj.weight", {A, D_});
  if (has_qkv_bias(m)) qkv_bias_ = store.slot(p + "q_proj.bias", p + "v_proj.bias", {A});
  if (has_head_norm(m)) {
    q_norm_ = store.slot(p + "q_norm.weight");
    k_norm_ = store.slot(p + "k_norm.weight");
  }
  if (has_output_bias(m)) o_bias_ = store.slot(p + "o_proj.bias");
}

Gqa::Sizes Gqa::sizes(const BatchSizes& batch, const ModelTypes& types) const {
  return {batch, types, D_, H_, G_, Q_, q_norm_.has_value()};
}

GqaAssemble Gqa::assembly(std::int64_t head_leaves) const {
  return {.num_heads = H_, .num_key_heads = G_, .head_dim = Q_, .epsilon = epsilon_, .head_leaves = head_leaves};
}

HeadNorm Gqa::head_norm(const Context& c, const Tensor& rstd_MN) const {
  if (!q_norm_) return {};
  return {c.weight(*q_norm_), c.weight(*k_norm_), rstd_MN};
}

Attention Gqa::attention(const Context& c) const {
  return {.scale = scale_,
          .block = c.attention_block,
          .sequence = c.sizes.keys_per_sequence(),
          .query_leaves = c.query_leaves,
          .documents = window_ > 0 ? PackedDocuments{} : c.documents};
}

Tensor Gqa::key_begin(const Context& c) const {
  return window_ > 0 ? c.window_begin : c.key_begin;
}

void Gqa::normalise(const Context& c, const Tensor& x_mD, const Saved& s) const {
  norm_operand(c, x_norm_, x_mD, norm_, s.xn_mD, s.x_rstd_m, qkv_);
}

void Gqa::project(const Context& c, const Tensor& x_mD, Saved& s) const {
  normalise(c, x_mD, s);
  linear_of_gathered(c, s.xn_mD, s.all_xn_MD, c.matrix(qkv_), s.a_MA);
  if (qkv_bias_) bias_add(*c.stream, c.weight(*qkv_bias_), s.a_MA);
}

void Gqa::assemble(const Context& c, Saved& s) const {
  gqa_assemble_forward(*c.stream, assembly(), c.rotary_table, c.positions, s.a_MA, head_norm(c, s.head_rstd_MN),
                       s.query_MHQ, s.key_MGQ, s.value_MGQ);
  if (!s.all_key_NGQ) return;
  c.sequences->gather(s.key_MGQ, s.all_key_NGQ);
  c.sequences->gather(s.value_MGQ, s.all_value_NGQ);
  c.sequences->finish(*c.stream);
}

void Gqa::output(const Context& c, const Tensor& x_mD, const Tensor& o_MHQ, const Tensor& y_mD,
                 const Meanwhile& own) const {
  sum_of_linear(c, o_MHQ.view({o_MHQ.dim(0), H_ * Q_}), c.matrix(o_), c.leaves.heads, y_mD, x_mD, own);
  if (o_bias_) bias_add(*c.stream, c.weight(*o_bias_), y_mD);
}

void Gqa::forward(const Context& c, const Tensor& x_mD, Saved& s, const Tensor& y_mD) const {
  project(c, x_mD, s);
  assemble(c, s);
  attend_and_project(c, attention(c), s.query_MHQ, s.keys(), s.values(), key_begin(c), s.sequence, s.o_MHQ, s.lse_MH,
                     s.operand_MO, [&](const Meanwhile& own) {
                       const Tensor o_MO = s.o_MHQ.view({s.o_MHQ.dim(0), H_ * Q_});
                       output(c, x_mD, activation_operand(c, o_MO, s.operand_MO, o_), y_mD, own);
                     });
}

void Gqa::recompute(const Context& c, const Tensor& x_mD, Saved& s) const {
  normalise(c, x_mD, s);
  gathered(c, s.xn_mD, s.all_xn_MD);
  assemble(c, s);
}

void Gqa::backward_input(const Context& c, const Tensor& x_mD, const Saved& s, const Tensor& dy_mD, Gradients& g,
                         const Tensor& dx_mD, const Meanwhile& gathering, const Meanwhile& summing) const {
  const Stream& stream = *c.stream;
  const Tensor dy_MD = gathered(c, gradient_operand(c, dy_mD, g.dy_mD, o_), g.all_dy_MD, gathering);
  input_gradient(c, dy_MD, o_, g.do_MHQ.view({dy_MD.dim(0), H_ * Q_}));
  attention_backward(c, attention(c), s.query_MHQ, s.keys(), s.values(), key_begin(c), s.o_MHQ, s.lse_MH, g.do_MHQ,
                     g.sequence, g.dquery_MHQ, g.dkey_MGQ, g.dvalue_MGQ);
  gqa_assemble_backward_input(stream, assembly(), c.rotary_table, c.positions, g.dquery_MHQ, g.dkey_MGQ, g.dvalue_MGQ,
                              s.a_MA, head_norm(c, s.head_rstd_MN), g.da_MA);
  sum_of_linears_backward(c, gradient_operand(c, g.da_MA, g.a_operand_MA, qkv_), qkv_, {H_ * Q_, G_ * Q_, G_ * Q_},
                          c.leaves.heads, g.dxn_mD, summing);
  rms_norm_backward_input(stream, x_norm_, g.dxn_mD, x_mD, c.weight(norm_), s.x_rstd_m, dx_mD, dy_mD);
}

void Gqa::backward_weight_early(const Context& c, const Saved& s, const Tensor& dy_mD, const Gradients& g) const {
  const Tensor o_MO = s.o_MHQ.view({s.o_MHQ.dim(0), H_ * Q_});
  weight_gradient(c, g.dy(dy_mD), activation_operand(c, o_MO, g.o_operand_MO, o_), o_);
  if (o_bias_) bias_backward(*c.stream, dy_mD, c.gradient(*o_bias_), c.token_cuts);
}

void Gqa::backward_weight_late(const Context& c, const Tensor& x_mD, const Saved& s, const Gradients& g) const {
  const Stream& stream = *c.stream;
  const Tensor& xn_MD = s.all_xn_MD ? s.all_xn_MD : s.xn_mD;
  weight_gradient(c, g.a_operand_MA ? g.a_operand_MA : g.da_MA, xn_MD, qkv_);
  if (qkv_bias_) bias_backward(stream, g.da_MA, c.gradient(*qkv_bias_), c.token_cuts);
  if (q_norm_)
    gqa_assemble_backward_weight(stream, assembly(c.leaves.heads), c.rotary_table, c.positions, g.dquery_MHQ,
                                 g.dkey_MGQ, s.a_MA, s.head_rstd_MN, c.gradient(*q_norm_), c.gradient(*k_norm_),
                                 c.token_cuts);
  rms_norm_backward_weight(stream, x_norm_, g.dxn_mD, x_mD, s.x_rstd_m, c.gradient(norm_), c.token_cuts);
}

void Gqa::backward_weight(const Context& c, const Tensor& x_mD, const Saved& s, const Tensor& dy_mD,
                          const Gradients& g) const {
  backward_weight_early(c, s, dy_mD, g);
  backward_weight_late(c, x_mD, s, g);
}

}  // namespace fourmi
