#include "framework/model/parameters.h"

#include <algorithm>

namespace fourmi {

ParameterTable::ParameterTable(const ModelSection& m, const Holding& holding) {
  if (holding.has_embedding_table(m)) {
    add_matrix("model.embed_tokens.weight", m.vocab_size, m.hidden_size);
    parameters_.back().stage_copies = holding.embedding_is_shared;
  }
  for (std::int64_t l = 0; l < m.num_hidden_layers; ++l)
    if (holding.has_layer(l))
      add_layer(m, l, is_moe_layer(m, l));
    else if (is_moe_layer(m, l))
      add_router_bias(m, l);
  if (holding.head) {
    add_norm("model.norm.weight", m.hidden_size);
    if (!m.tie_word_embeddings) add_matrix("lm_head.weight", m.vocab_size, m.hidden_size);
  }
  in_mtp_ = true;
  for (std::int64_t d = 0; d < m.num_nextn_predict_layers; ++d) {
    const std::int64_t l = m.num_hidden_layers + d;
    if (!holding.mtp) {
      if (is_moe_layer(m, l)) add_router_bias(m, l);
      continue;
    }
    const std::string p = layer_prefix(l);
    add_norm(p + "enorm.weight", m.hidden_size);
    add_norm(p + "hnorm.weight", m.hidden_size);
    add_matrix(p + "eh_proj.weight", m.hidden_size, 2 * m.hidden_size);
    add_layer(m, l, is_moe_layer(m, l));
    add_norm(p + "shared_head.norm.weight", m.hidden_size);
  }
  for (std::size_t i = 0; i < parameters_.size(); ++i) by_name_.emplace_back(parameters_[i].name, i);
  std::sort(by_name_.begin(), by_name_.end());
}

void ParameterTable::add(std::string name, Shape shape, ParameterSet set, Initialisation init, bool decay,
                         bool expert) {
  std::int64_t& end = elements_[static_cast<std::size_t>(set)];
  parameters_.push_back({std::move(name), shape, set, init, decay, expert, in_mtp_, false, end});
  end += shape.num_elements();
}

void ParameterTable::add_matrix(std::string name, std::int64_t rows, std::int64_t columns, bool expert) {
  add(std::move(name), {rows, columns}, ParameterSet::matrices, Initialisation::normal, true, expert);
}

void ParameterTable::add_norm(std::string name, std::int64_t size) {
  add(std::move(name), {size}, ParameterSet::full_precision, Initialisation::ones, false);
}

void ParameterTable::add_bias(std::string name, std::int64_t size) {
  add(std::move(name), {size}, ParameterSet::full_precision, Initialisation::zeros, false);
}

void ParameterTable::add_layer(const ModelSection& m, std::int64_t layer, bool moe) {
  const std::string p = layer_prefix(layer);
  add_norm(p + "input_layernorm.weight", m.hidden_size);
  if (has_latent_attention(m))
    add_mla(m, p + "self_attn.");
  else
    add_gqa(m, p + "self_attn.");
  add_norm(p + "post_attention_layernorm.weight", m.hidden_size);
  if (moe)
    add_moe(m, layer);
  else
    add_mlp(p + "mlp.", m.hidden_size, m.intermediate_size);
}

void ParameterTable::add_mla(const ModelSection& m, const std::string& p) {
  const std::int64_t query = m.num_attention_heads * (m.qk_nope_head_dim + m.qk_rope_head_dim);
  // The two projections that read the block's input come first: one product computes both.
  if (m.q_lora_rank > 0)
    add_matrix(p + "q_a_proj.weight", m.q_lora_rank, m.hidden_size);
  else
    add_matrix(p + "q_proj.weight", query, m.hidden_size);
  add_matrix(p + "kv_a_proj_with_mqa.weight", m.kv_lora_rank + m.qk_rope_head_dim, m.hidden_size);
  if (m.q_lora_rank > 0) {
    add_norm(p + "q_a_layernorm.weight", m.q_lora_rank);
    add_matrix(p + "q_b_proj.weight", query, m.q_lora_rank);
  }
  add_norm(p + "kv_a_layernorm.weight", m.kv_lora_rank);
  add_matrix(p + "kv_b_proj.weight", m.num_attention_heads * (m.qk_nope_head_dim + m.v_head_dim), m.kv_lora_rank);
  add_matrix(p + "o_proj.weight", m.hidden_size, m.num_attention_heads * m.v_head_dim);
}

void ParameterTable::add_gqa(const ModelSection& m, const std::string& p) {
  const std::int64_t query = m.num_attention_heads * m.head_dim, key = m.num_key_value_heads * m.head_dim;
  add_matrix(p + "q_proj.weight", query, m.hidden_size);
  add_matrix(p + "k_proj.weight", key, m.hidden_size);
  add_matrix(p + "v_proj.weight", key, m.hidden_size);
  if (has_qkv_bias(m)) {
    add_bias(p + "q_proj.bias", query);
    add_bias(p + "k_proj.bias", key);
    add_bias(p + "v_proj.bias", key);
  }
  if (has_head_norm(m)) {
    add_norm(p + "q_norm.weight", m.head_dim);
    add_norm(p + "k_norm.weight", m.head_dim);
  }
  add_matrix(p + "o_proj.weight", m.hidden_size, query);
  if (has_output_bias(m)) add_bias(p + "o_proj.bias", m.hidden_size);
}

void ParameterTable::add_mlp(const std::string& p, std::int64_t hidden, std::int64_t intermediate) {
  add_matrix(p + "gate_proj.weight", intermediate, hidden);
  add_matrix(p + "up_proj.weight", intermediate, hidden);
  add_matrix(p + "down_proj.weight", hidden, intermediate);
}

void ParameterTable::add_moe(const ModelSection& m, std::int64_t layer) {
  const MoeNames names = moe_names(m, layer);
  add(names.router(), {m.n_routed_experts, m.hidden_size}, ParameterSet::full_precision, Initialisation::normal, true);
  add_router_bias(m, layer);
  const std::int64_t f = m.moe_intermediate_size;
  for (std::int64_t e = 0; e < m.n_routed_experts; ++e) {
    add_matrix(names.expert(e, names.gate), f, m.hidden_size, true);
    add_matrix(names.expert(e, names.up), f, m.hidden_size, true);
  }
  for (std::int64_t e = 0; e < m.n_routed_experts; ++e) add_matrix(names.expert(e, names.down), m.hidden_size, f, true);
  if (m.n_shared_experts > 0) add_mlp(names.block + "shared_experts.", m.hidden_size, m.n_shared_experts * f);
}

void ParameterTable::add_router_bias(const ModelSection& m, std::int64_t layer) {
  if (m.topk_method == "noaux_tc")
    add(moe_names(m, layer).block + "gate.e_score_correction_bias", {m.n_routed_experts}, ParameterSet::router_bias,
        Initialisation::zeros, false);
}

const Parameter& ParameterTable::find(std::string_view name) const {
  auto it = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                             [](const auto& a, std::string_view n) { return a.first < n; });
  FOURMI_CHECK(it != by_name_.end() && it->first == name, "no parameter {}", name);
  return parameters_[it->second];
}

std::vector<const Parameter*> ParameterTable::of(ParameterSet set) const {
  std::vector<const Parameter*> result;
  for (const Parameter& p : parameters_)
    if (p.set == set) result.push_back(&p);
  return result;
}

}  // namespace fourmi
