#include "framework/model/parameters.h"

#include <algorithm>

namespace fourmi {

ParameterTable::ParameterTable(const ModelSection& m, const Holding& holding) : shares_(holding.shares) {
  if (holding.has_embedding_table(m)) {
    add_vocabulary("model.embed_tokens.weight", m.vocab_size, m.hidden_size);
    parameters_.back().stage_copies = holding.embedding_is_shared;
  }
  for (std::int64_t l = 0; l < m.num_hidden_layers; ++l)
    if (layer_ = l; holding.has_layer(l))
      add_layer(m, l, is_moe_layer(m, l));
    else if (is_moe_layer(m, l))
      add_router_bias(m, l);
  layer_ = -1;
  if (holding.head) {
    add_norm("model.norm.weight", m.hidden_size);
    if (!m.tie_word_embeddings) add_vocabulary("lm_head.weight", m.vocab_size, m.hidden_size);
  }
  in_mtp_ = true;
  for (std::int64_t d = 0; d < m.num_nextn_predict_layers; ++d) {
    const std::int64_t l = layer_ = m.num_hidden_layers + d;
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

/// `range`: what this rank holds of the dim that is cut.
void ParameterTable::add(Parameter p, Share::Range range, Cut cut) {
  std::int64_t& end = elements_[static_cast<std::size_t>(p.set)];
  p.local = p.shape;
  if (cut == Cut::rows) p.local.dims[0] = range.count(), p.first_row = range.begin;
  if (cut == Cut::columns) p.local.dims[1] = range.count(), p.first_column = range.begin;
  p.mtp = in_mtp_;
  p.layer = layer_;
  p.offset = end;
  end += p.local.num_elements() + p.padding;
  parameters_.push_back(std::move(p));
}

void ParameterTable::add_matrix(std::string name, std::int64_t rows, std::int64_t columns, Cut cut) {
  const Copies copies = cut == Cut::none ? Copies::every_rank : Copies::tensor_peers;
  add({.name = std::move(name), .shape = {rows, columns}, .copies = copies, .is_map = true},
      shares_.tensor.of(cut == Cut::columns ? columns : rows), cut);
}

void ParameterTable::add_expert_matrix(std::string name, std::int64_t rows, std::int64_t columns, Cut cut) {
  add({.name = std::move(name),
       .shape = {rows, columns},
       .copies = Copies::expert_peers,
       .routed_expert = true,
       .is_map = true},
      shares_.expert_tensor.of(cut == Cut::columns ? columns : rows), cut);
}

void ParameterTable::add_vocabulary(std::string name, std::int64_t vocab_size, std::int64_t hidden) {
  const VocabularyShare share = vocabulary_share(vocab_size, shares_.tensor);
  add({.name = std::move(name),
       .shape = {vocab_size, hidden},
       .copies = Copies::tensor_peers,
       .padding = (share.padded_rows - share.held.count()) * hidden},
      share.held, Cut::rows);
}

void ParameterTable::add_norm(std::string name, std::int64_t size) {
  add({.name = std::move(name),
       .shape = {size},
       .set = ParameterSet::full_precision,
       .initialisation = Initialisation::ones,
       .weight_decay = false},
      {}, Cut::none);
}

void ParameterTable::add_bias(std::string name, std::int64_t size, Cut cut) {
  add({.name = std::move(name),
       .shape = {size},
       .copies = cut == Cut::none ? Copies::every_rank : Copies::tensor_peers,
       .set = ParameterSet::full_precision,
       .initialisation = Initialisation::zeros,
       .weight_decay = false},
      shares_.tensor.of(size), cut);
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
    add_matrix(p + "q_proj.weight", query, m.hidden_size, Cut::rows);
  add_matrix(p + "kv_a_proj_with_mqa.weight", m.kv_lora_rank + m.qk_rope_head_dim, m.hidden_size);
  if (m.q_lora_rank > 0) join(Joined::as_rows);
  if (m.q_lora_rank > 0) {
    add_norm(p + "q_a_layernorm.weight", m.q_lora_rank);
    add_matrix(p + "q_b_proj.weight", query, m.q_lora_rank, Cut::rows);
  }
  add_norm(p + "kv_a_layernorm.weight", m.kv_lora_rank);
  add_matrix(p + "kv_b_proj.weight", m.num_attention_heads * (m.qk_nope_head_dim + m.v_head_dim), m.kv_lora_rank,
             Cut::rows);
  add_matrix(p + "o_proj.weight", m.hidden_size, m.num_attention_heads * m.v_head_dim, Cut::columns);
}

void ParameterTable::add_gqa(const ModelSection& m, const std::string& p) {
  const std::int64_t query = m.num_attention_heads * m.head_dim, key = m.num_key_value_heads * m.head_dim;
  add_matrix(p + "q_proj.weight", query, m.hidden_size, Cut::rows);
  add_matrix(p + "k_proj.weight", key, m.hidden_size, Cut::rows);
  join(Joined::as_rows);
  add_matrix(p + "v_proj.weight", key, m.hidden_size, Cut::rows);
  join(Joined::as_rows);
  if (has_qkv_bias(m)) {
    add_bias(p + "q_proj.bias", query, Cut::rows);
    add_bias(p + "k_proj.bias", key, Cut::rows);
    add_bias(p + "v_proj.bias", key, Cut::rows);
  }
  if (has_head_norm(m)) {
    add_norm(p + "q_norm.weight", m.head_dim);
    add_norm(p + "k_norm.weight", m.head_dim);
  }
  add_matrix(p + "o_proj.weight", m.hidden_size, query, Cut::columns);
  if (has_output_bias(m)) add_bias(p + "o_proj.bias", m.hidden_size);
}

void ParameterTable::add_mlp(const std::string& p, std::int64_t hidden, std::int64_t intermediate) {
  add_matrix(p + "gate_proj.weight", intermediate, hidden, Cut::rows);
  add_matrix(p + "up_proj.weight", intermediate, hidden, Cut::rows);
  join(Joined::as_rows);
  add_matrix(p + "down_proj.weight", hidden, intermediate, Cut::columns);
}

void ParameterTable::add_moe(const ModelSection& m, std::int64_t layer) {
  const MoeNames names = moe_names(m, layer);
  add({.name = names.router(), .shape = {m.n_routed_experts, m.hidden_size}, .set = ParameterSet::full_precision}, {},
      Cut::none);
  add_router_bias(m, layer);
  const std::int64_t f = m.moe_intermediate_size;
  const Share::Range experts = shares_.expert.of(m.n_routed_experts);
  for (std::int64_t e = experts.begin; e < experts.end; ++e) {
    add_expert_matrix(names.expert(e, names.gate), f, m.hidden_size, Cut::rows);
    if (e > experts.begin) join(Joined::as_matrix);
    add_expert_matrix(names.expert(e, names.up), f, m.hidden_size, Cut::rows);
    join(Joined::as_rows);
  }
  for (std::int64_t e = experts.begin; e < experts.end; ++e) {
    add_expert_matrix(names.expert(e, names.down), m.hidden_size, f, Cut::columns);
    if (e > experts.begin) join(Joined::as_matrix);
  }
  if (m.n_shared_experts > 0) add_mlp(names.block + "shared_experts.", m.hidden_size, m.n_shared_experts * f);
}

void ParameterTable::add_router_bias(const ModelSection& m, std::int64_t layer) {
  if (m.topk_method != "noaux_tc") return;
  add({.name = moe_names(m, layer).block + "gate.e_score_correction_bias",
       .shape = {m.n_routed_experts},
       .set = ParameterSet::router_bias,
       .initialisation = Initialisation::zeros,
       .weight_decay = false},
      {}, Cut::none);
}

std::int64_t ParameterTable::index_of(std::string_view name) const {
  auto it = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                             [](const auto& a, std::string_view n) { return a.first < n; });
  FOURMI_CHECK(it != by_name_.end() && it->first == name, "no parameter {}", name);
  return static_cast<std::int64_t>(it->second);
}

std::vector<const Parameter*> ParameterTable::of(ParameterSet set) const {
  std::vector<const Parameter*> result;
  for (const Parameter& p : parameters_)
    if (p.set == set) result.push_back(&p);
  return result;
}

std::vector<Region> ParameterTable::regions(ParameterSet set, bool by_layer) const {
  const std::int64_t all = num_elements(set);
  if (!by_layer) return {{set, -1, 0, all}};
  std::vector<Region> regions;
  for (const Parameter* p : of(set)) {
    if (regions.empty() || regions.back().layer != p->layer) {
      if (!regions.empty()) regions.back().end = p->offset;
      regions.push_back({set, p->layer, p->offset, all});
    }
  }
  return regions;
}

}  // namespace fourmi
