#include "framework/model/mla.h"

#include "framework/model/cut_linear.h"
#include "framework/model/family.h"
#include "framework/model/products.h"
#include "framework/model/rope.h"
#include "kernels/ops/copy.h"

namespace fourmi {

Mla::Mla(const ModelSection& m, const ParameterStore& store, std::int64_t layer)
    : D_(m.hidden_size),
      nope_(m.qk_nope_head_dim),
      rope_(m.qk_rope_head_dim),
      V_(m.v_head_dim),
      q_rank_(m.q_lora_rank),
      kv_rank_(m.kv_lora_rank),
      epsilon_(m.rms_norm_eps),
      scale_(softmax_scale(m)) {
  const std::string p = layer_prefix(layer) + "self_attn.";
  o_ = store.slot(p + "o_proj.weight");
  H_ = o_.shape[1] / V_;
  head_leaves_ = num_leaves(m.num_attention_heads) * H_ / m.num_attention_heads;
  norm_ = store.slot(layer_prefix(layer) + "input_layernorm.weight");
  const std::string kv_a = p + "kv_a_proj_with_mqa.weight";
  down_ = store.slot(q_rank_ > 0 ? p + "q_a_proj.weight" : kv_a, kv_a, {q_rank_ + kv_rank_ + rope_, D_});
  if (q_rank_ > 0) q_a_norm_ = store.slot(p + "q_a_layernorm.weight");
  q_ = store.slot(p + (q_rank_ > 0 ? "q_b_proj.weight" : "q_proj.weight"));
  kv_a_norm_ = store.slot(p + "kv_a_layernorm.weight");
  kv_b_ = store.slot(p + "kv_b_proj.weight");
  x_norm_ = {.epsilon = epsilon_};
  // HF and DeepSeek build the two latent norms with the model's epsilon as well.
  q_norm_ = {.epsilon = epsilon_, .x_column = 0};
  c_norm_ = {.epsilon = epsilon_, .x_column = q_rank_};
}

Mla::Sizes Mla::sizes(const BatchSizes& batch, const ModelTypes& types) const {
  return {batch, types, D_, H_, nope_, rope_, V_, q_rank_, kv_rank_};
}

MlaAssemble Mla::assembly(bool shared_key_apart) const {
  return {.num_heads = H_,
          .nope = nope_,
          .rope = rope_,
          .v = V_,
          .k_column = shared_key_apart ? 0 : key_column(),
          .head_leaves = head_leaves_};
}

Attention Mla::attention(const Context& c) const {
  return {.scale = scale_,
          .block = c.attention_block,
          .sequence = c.sizes.keys_per_sequence(),
          .query_leaves = c.query_leaves,
          .documents = c.documents};
}

void Mla::normalise_input(const Context& c, const Tensor& x_mD, const Saved& s) const {
  norm_operand(c, x_norm_, x_mD, norm_, s.xn_mD, s.x_rstd_m, down_);
}

void Mla::normalise_latents(const Context& c, Saved& s) const {
  if (q_rank_ > 0) norm_operand(c, q_norm_, s.a_mA, q_a_norm_, s.qn_mQr, s.q_rstd_m, q_);
  norm_operand(c, c_norm_, s.a_mA, kv_a_norm_, s.cn_mKr, s.c_rstd_m, kv_b_);
}

void Mla::project_queries(const Context& c, Saved& s) const {
  RowExchange::Moves moves = c.moves();
  if (s.pe_mR) copy_columns(*c.stream, s.a_mA, key_column(), s.pe_mR, 0, rope_);
  const Tensor source_MS = moves.gather(source(s), s.all_source_MS);
  const Tensor cn_MKr = moves.gather(s.cn_mKr, s.all_cn_MKr), pe_MR = moves.gather(s.pe_mR, s.all_pe_MR);
  moves.finish([&] {
    linear_of_own(c, source(s), c.matrix(q_), s.q_MHQ);
    if (expands_apart(s)) linear_of_own(c, s.cn_mKr, c.matrix(kv_b_), expanded(s.kv_NHC));
  });
  if (s.keys_cn_NKr) {
    c.sequences->gather(cn_MKr, s.keys_cn_NKr);
    c.sequences->gather(pe_MR, s.keys_pe_NR);
  }
  linear_of_others(c, source_MS, c.matrix(q_), s.q_MHQ);
  if (s.keys_cn_NKr) c.sequences->finish(*c.stream);
}

void Mla::project(const Context& c, const Tensor& x_mD, Saved& s) const {
  normalise_input(c, x_mD, s);
  linear_forward(*c.stream, s.xn_mD, c.matrix(down_), s.a_mA);
  normalise_latents(c, s);
  project_queries(c, s);
}

Tensor Mla::expanded(const Tensor& kv_NHC) const {
  return kv_NHC.view({kv_NHC.dim(0), H_ * (nope_ + V_)});
}

void Mla::expand_latent(const Context& c, const Tensor& cn_NKr, const Tensor& kv_NHC) const {
  linear_forward(*c.stream, cn_NKr, c.matrix(kv_b_), expanded(kv_NHC));
}

void Mla::output(const Context& c, const Tensor& x_mD, const Tensor& o_MHV, const Tensor& y_mD,
                 const Meanwhile& own) const {
  sum_of_linear(c, o_MHV.view({o_MHV.dim(0), H_ * V_}), c.matrix(o_), c.leaves.heads, y_mD, x_mD, own);
}

void Mla::assemble(const Context& c, Saved& s) const {
  if (s.keys_cn_NKr) {
    expand_latent(c, s.keys_cn_NKr, s.kv_NHC);
    mla_assemble_forward(*c.stream, assembly(true), c.rotary_table, c.positions, s.q_MHQ, {}, {}, s.query_MHQ, {}, {});
    mla_assemble_forward(*c.stream, assembly(true), c.rotary_table, c.key_positions, {}, s.kv_NHC, s.keys_pe_NR, {},
                         s.key_NHQ, s.value_NHV);
    return;
  }
  const bool apart = expands_apart(s);
  if (apart)
    linear_of_others(c, s.all_cn_MKr, c.matrix(kv_b_), expanded(s.kv_NHC));
  else
    expand_latent(c, s.cn_mKr, s.kv_NHC);
  mla_assemble_forward(*c.stream, assembly(apart), c.rotary_table, c.positions, s.q_MHQ, s.kv_NHC,
                       apart ? s.all_pe_MR : s.a_mA, s.query_MHQ, s.key_NHQ, s.value_NHV);
}

void Mla::forward(const Context& c, const Tensor& x_mD, Saved& s, const Tensor& y_mD) const {
  project(c, x_mD, s);
  assemble(c, s);
  attend_and_project(c, attention(c), s.query_MHQ, s.key_NHQ, s.value_NHV, c.key_begin, s.sequence, s.o_MHV, s.lse_MH,
                     s.operand_MO, [&](const Meanwhile& own) {
                       const Tensor o_MO = s.o_MHV.view({s.o_MHV.dim(0), H_ * V_});
                       output(c, x_mD, activation_operand(c, o_MO, s.operand_MO, o_), y_mD, own);
                     });
}

void Mla::recompute(const Context& c, const Tensor& x_mD, Saved& s) const {
  normalise_input(c, x_mD, s);
  normalise_latents(c, s);
  project_queries(c, s);
  assemble(c, s);
}

void Mla::backward_input(const Context& c, const Tensor& x_mD, const Saved& s, const Tensor& dy_mD, Gradients& g,
                         const Tensor& dx_mD, const Meanwhile& gathering, const Meanwhile& summing) const {
  const Stream& stream = *c.stream;
  const Tensor dy_MD = gathered(c, gradient_operand(c, dy_mD, g.dy_mD, o_), g.all_dy_MD, gathering);
  const std::int64_t M = dy_MD.dim(0);
  input_gradient(c, dy_MD, o_, g.do_MHV.view({M, H_ * V_}));
  attention_backward(c, attention(c), s.query_MHQ, s.key_NHQ, s.value_NHV, c.key_begin, s.o_MHV, s.lse_MH, g.do_MHV,
                     g.sequence, g.dquery_MHQ, g.dkey_MHQ, g.dvalue_MHV);

  RowExchange::Moves moves = c.moves();
  const Tensor dpe = moves.alone() ? Tensor{} : moves.partial(g.dpe_mR);
  mla_assemble_backward(stream, assembly(false), c.rotary_table, c.positions, g.dquery_MHQ, g.dkey_MHQ, g.dvalue_MHV,
                        g.dq_MHQ, g.dkv_MHC, moves.alone() ? g.da_mA : Tensor{}, dpe);
  if (!moves.alone()) moves.sum(dpe, g.dpe_mR);
  const Tensor dcn = moves.partial(g.dcn_mKr);
  input_gradient(c, gradient_operand(c, g.dkv_MHC.view({M, H_ * (nope_ + V_)}), g.kv_operand_MC, kv_b_), kv_b_, dcn, {},
                 c.leaves.heads);
  moves.sum(dcn, g.dcn_mKr);
  const Tensor& dsource_mS = q_rank_ > 0 ? g.dqn_mQr : g.dxn_mD;
  const Tensor dsource = moves.partial(dsource_mS);
  input_gradient(c, gradient_operand(c, g.dq_MHQ, g.q_operand_MS, q_), q_, dsource, {}, c.leaves.heads);
  moves.sum(dsource, dsource_mS);
  moves.finish(summing);

  if (g.dpe_mR) mla_rotary_key_backward(stream, assembly(false), c.rotary_table, c.own_positions, g.dpe_mR, g.da_mA);
  rms_norm_backward_input(stream, c_norm_, g.dcn_mKr, s.a_mA, c.weight(kv_a_norm_), s.c_rstd_m, g.da_mA);
  if (q_rank_ > 0)
    rms_norm_backward_input(stream, q_norm_, g.dqn_mQr, s.a_mA, c.weight(q_a_norm_), s.q_rstd_m, g.da_mA);
  input_gradient(c, gradient_operand(c, g.da_mA, g.a_operand_mA, down_), down_, g.dxn_mD,
                 q_rank_ > 0 ? Tensor{} : g.dxn_mD);
  rms_norm_backward_input(stream, x_norm_, g.dxn_mD, x_mD, c.weight(norm_), s.x_rstd_m, dx_mD, dy_mD);
}

void Mla::backward_weight_early(const Context& c, const Saved& s, const Tensor& dy_mD, const Gradients& g) const {
  const bool shared = static_cast<bool>(s.all_cn_MKr);
  const std::int64_t M = s.o_MHV.dim(0);
  weight_gradient(c, g.dy(dy_mD), activation_operand(c, s.o_MHV.view({M, H_ * V_}), g.o_operand_MO, o_), o_);
  weight_gradient(c, g.kv_operand_MC ? g.kv_operand_MC : g.dkv_MHC.view({M, H_ * (nope_ + V_)}),
                  shared ? s.all_cn_MKr : s.cn_mKr, kv_b_);
}

void Mla::backward_weight_late(const Context& c, const Tensor& x_mD, const Saved& s, const Gradients& g) const {
  const Stream& stream = *c.stream;
  weight_gradient(c, g.q_operand_MS ? g.q_operand_MS : g.dq_MHQ, s.all_source_MS ? s.all_source_MS : source(s), q_);
  rms_norm_backward_weight(stream, c_norm_, g.dcn_mKr, s.a_mA, s.c_rstd_m, c.gradient(kv_a_norm_), c.token_cuts);
  if (q_rank_ > 0)
    rms_norm_backward_weight(stream, q_norm_, g.dqn_mQr, s.a_mA, s.q_rstd_m, c.gradient(q_a_norm_), c.token_cuts);
  if (!normalises_again(g)) weight_gradient(c, g.a_operand_mA ? g.a_operand_mA : g.da_mA, s.xn_mD, down_);
  rms_norm_backward_weight(stream, x_norm_, g.dxn_mD, x_mD, s.x_rstd_m, c.gradient(norm_), c.token_cuts);
}

void Mla::backward_weight_down(const Context& c, const Tensor& x_mD, const Saved& s, const Gradients& g) const {
  if (!normalises_again(g)) return;
  normalise_input(c, x_mD, s);
  weight_gradient(c, g.a_operand_mA, s.xn_mD, down_);
}

void Mla::backward_weight(const Context& c, const Tensor& x_mD, const Saved& s, const Tensor& dy_mD,
                          const Gradients& g) const {
  backward_weight_down(c, x_mD, s, g);
  backward_weight_early(c, s, dy_mD, g);
  backward_weight_late(c, x_mD, s, g);
}

}  // namespace fourmi
