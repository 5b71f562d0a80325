#include "framework/model/mla.h"

#include "framework/model/family.h"
#include "framework/model/rope.h"

namespace fourmi {

Mla::Mla(const ModelSection& m, const ParameterStore& store, std::int64_t layer)
    : D_(m.hidden_size),
      H_(m.num_attention_heads),
      nope_(m.qk_nope_head_dim),
      rope_(m.qk_rope_head_dim),
      V_(m.v_head_dim),
      q_rank_(m.q_lora_rank),
      kv_rank_(m.kv_lora_rank),
      epsilon_(m.rms_norm_eps),
      scale_(softmax_scale(m)) {
  const std::string p = layer_prefix(layer) + "self_attn.";
  const std::int64_t q_width = q_rank_ > 0 ? q_rank_ : H_ * (nope_ + rope_);
  norm_ = store.slot(layer_prefix(layer) + "input_layernorm.weight");
  down_ = store.slot(p + (q_rank_ > 0 ? "q_a_proj.weight" : "q_proj.weight"), p + "kv_a_proj_with_mqa.weight",
                     {q_width + kv_rank_ + rope_, D_});
  if (q_rank_ > 0) {
    q_a_norm_ = store.slot(p + "q_a_layernorm.weight");
    q_b_ = store.slot(p + "q_b_proj.weight");
  }
  kv_a_norm_ = store.slot(p + "kv_a_layernorm.weight");
  kv_b_ = store.slot(p + "kv_b_proj.weight");
  o_ = store.slot(p + "o_proj.weight");
  x_norm_ = {.epsilon = epsilon_};
  // HF and DeepSeek build the two latent norms with the model's epsilon as well.
  q_norm_ = {.epsilon = epsilon_, .x_column = 0};
  c_norm_ = {.epsilon = epsilon_, .x_column = q_width};
}

Mla::Sizes Mla::sizes(const BatchSizes& batch, const ModelTypes& types) const {
  return {batch, types, D_, H_, nope_, rope_, V_, q_rank_, kv_rank_};
}

MlaAssemble Mla::assembly() const {
  const std::int64_t q_width = q_rank_ > 0 ? q_rank_ : H_ * (nope_ + rope_);
  return {.num_heads = H_, .nope = nope_, .rope = rope_, .v = V_, .q_column = 0, .k_column = q_width + kv_rank_};
}

Attention Mla::attention(const Context& c) const {
  return {.scale = scale_, .block = c.attention_block, .sequence = c.sizes.tokens_per_sequence};
}

void Mla::normalise_input(const Context& c, const Tensor& x_MD, Saved& s) const {
  rms_norm_forward(*c.stream, x_norm_, x_MD, c.weight(norm_), s.xn_MD, s.x_rstd_M);
}

void Mla::normalise_latents(const Context& c, Saved& s) const {
  const Stream& stream = *c.stream;
  if (q_rank_ > 0) {
    rms_norm_forward(stream, q_norm_, s.a_MA, c.weight(q_a_norm_), s.qn_MQr, s.q_rstd_M);
    linear_forward(stream, s.qn_MQr, c.weight(q_b_), s.q_MHQ);
  }
  rms_norm_forward(stream, c_norm_, s.a_MA, c.weight(kv_a_norm_), s.cn_MKr, s.c_rstd_M);
}

void Mla::project(const Context& c, const Tensor& x_MD, Saved& s) const {
  normalise_input(c, x_MD, s);
  linear_forward(*c.stream, s.xn_MD, c.weight(down_), s.a_MA);
  normalise_latents(c, s);
}

void Mla::expand_latent(const Context& c, const Tensor& cn_MKr, const Tensor& kv_MHC) const {
  linear_forward(*c.stream, cn_MKr, c.weight(kv_b_), kv_MHC.view({kv_MHC.dim(0), H_ * (nope_ + V_)}));
}

void Mla::output(const Context& c, const Tensor& x_MD, const Tensor& o_MHV, const Tensor& y_MD) const {
  linear_forward(*c.stream, o_MHV.view({o_MHV.dim(0), H_ * V_}), c.weight(o_), y_MD, x_MD);
}

void Mla::assemble(const Context& c, Saved& s) const {
  expand_latent(c, s.cn_MKr, s.kv_MHC);
  mla_assemble_forward(*c.stream, assembly(), c.rotary_table, c.positions, query_source(s), s.kv_MHC, s.a_MA,
                       s.query_MHQ, s.key_MHQ, s.value_MHV);
}

void Mla::forward(const Context& c, const Tensor& x_MD, Saved& s, const Tensor& y_MD) const {
  project(c, x_MD, s);
  assemble(c, s);
  attention_forward(*c.stream, attention(c), s.query_MHQ, s.key_MHQ, s.value_MHV, c.key_begin, c.key_end, s.o_MHV,
                    s.lse_MH);
  output(c, x_MD, s.o_MHV, y_MD);
}

void Mla::recompute(const Context& c, const Tensor& x_MD, Saved& s) const {
  normalise_input(c, x_MD, s);
  normalise_latents(c, s);
  assemble(c, s);
}

void Mla::backward_input(const Context& c, const Tensor& x_MD, const Saved& s, const Tensor& dy_MD, Gradients& g,
                         const Tensor& dx_MD) const {
  const Stream& stream = *c.stream;
  const std::int64_t M = x_MD.dim(0);
  linear_backward_input(stream, dy_MD, c.weight(o_), g.do_MHV.view({M, H_ * V_}));
  attention_backward(stream, attention(c), s.query_MHQ, s.key_MHQ, s.value_MHV, c.key_begin, c.key_end, s.o_MHV,
                     s.lse_MH, g.do_MHV, g.dquery_MHQ, g.dkey_MHQ, g.dvalue_MHV);
  mla_assemble_backward(stream, assembly(), c.rotary_table, c.positions, g.dquery_MHQ, g.dkey_MHQ, g.dvalue_MHV,
                        q_rank_ > 0 ? g.dq_MHQ : g.da_MA, g.dkv_MHC, g.da_MA);
  linear_backward_input(stream, g.dkv_MHC.view({M, H_ * (nope_ + V_)}), c.weight(kv_b_), g.dcn_MKr);
  rms_norm_backward_input(stream, c_norm_, g.dcn_MKr, s.a_MA, c.weight(kv_a_norm_), s.c_rstd_M, g.da_MA);
  if (q_rank_ > 0) {
    linear_backward_input(stream, g.dq_MHQ, c.weight(q_b_), g.dqn_MQr);
    rms_norm_backward_input(stream, q_norm_, g.dqn_MQr, s.a_MA, c.weight(q_a_norm_), s.q_rstd_M, g.da_MA);
  }
  linear_backward_input(stream, g.da_MA, c.weight(down_), g.dxn_MD);
  rms_norm_backward_input(stream, x_norm_, g.dxn_MD, x_MD, c.weight(norm_), s.x_rstd_M, dx_MD, dy_MD);
}

void Mla::backward_weight(const Context& c, const Tensor& x_MD, const Saved& s, const Tensor& dy_MD,
                          const Gradients& g) const {
  const Stream& stream = *c.stream;
  const std::int64_t M = x_MD.dim(0);
  linear_backward_weight(stream, dy_MD, s.o_MHV.view({M, H_ * V_}), c.gradient(o_), c.weight_cuts);
  linear_backward_weight(stream, g.dkv_MHC.view({M, H_ * (nope_ + V_)}), s.cn_MKr, c.gradient(kv_b_), c.weight_cuts);
  rms_norm_backward_weight(stream, c_norm_, g.dcn_MKr, s.a_MA, s.c_rstd_M, c.gradient(kv_a_norm_), c.token_cuts);
  if (q_rank_ > 0) {
    linear_backward_weight(stream, g.dq_MHQ, s.qn_MQr, c.gradient(q_b_), c.weight_cuts);
    rms_norm_backward_weight(stream, q_norm_, g.dqn_MQr, s.a_MA, s.q_rstd_M, c.gradient(q_a_norm_), c.token_cuts);
  }
  linear_backward_weight(stream, g.da_MA, s.xn_MD, c.gradient(down_), c.weight_cuts);
  rms_norm_backward_weight(stream, x_norm_, g.dxn_MD, x_MD, s.x_rstd_M, c.gradient(norm_), c.token_cuts);
}

}  // namespace fourmi
