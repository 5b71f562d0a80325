#include "framework/model/family.h"

#include <fmt/format.h>

#include <algorithm>

namespace fourmi {

bool has_latent_attention(const ModelSection& m) {
  return m.kv_lora_rank > 0;
}

bool has_qkv_bias(const ModelSection& m) {
  return m.attention_bias || m.model_type == "qwen2";
}
bool has_output_bias(const ModelSection& m) {
  return m.attention_bias;
}
bool has_head_norm(const ModelSection& m) {
  return m.model_type == "qwen3" || m.model_type == "qwen3_moe";
}

std::int64_t attention_window(const ModelSection& m, std::int64_t layer) {
  if (has_latent_attention(m) || !m.use_sliding_window || m.sliding_window == 0) return 0;
  if (!m.layer_types.empty())
    return m.layer_types[static_cast<std::size_t>(layer)] == "sliding_attention" ? m.sliding_window : 0;
  return layer >= m.max_window_layers ? m.sliding_window : 0;
}

std::int64_t score_head_dim(const ModelSection& m) {
  return has_latent_attention(m) ? m.qk_nope_head_dim + m.qk_rope_head_dim : m.head_dim;
}
std::int64_t value_head_dim(const ModelSection& m) {
  return has_latent_attention(m) ? m.v_head_dim : m.head_dim;
}

bool is_moe_layer(const ModelSection& m, std::int64_t layer) {
  if (m.n_routed_experts == 0 || m.first_k_dense_replace >= m.num_hidden_layers) return false;
  if (layer >= m.num_hidden_layers) return true;  // MTP layers are mixtures of experts (DeepSeek-V3 report 2.2)
  if (layer < m.first_k_dense_replace || layer % m.moe_layer_freq != 0) return false;
  return (layer + 1) % m.decoder_sparse_step == 0 &&
         std::find(m.mlp_only_layers.begin(), m.mlp_only_layers.end(), layer) == m.mlp_only_layers.end();
}

std::string layer_prefix(std::int64_t layer) {
  return fmt::format("model.layers.{}.", layer);
}

std::string MoeNames::expert(std::int64_t e, const std::string& what) const {
  return fmt::format("{}experts.{}.{}.weight", block, e, what);
}

MoeNames moe_names(const ModelSection& m, std::int64_t layer) {
  if (m.model_type == "mixtral") return {layer_prefix(layer) + "block_sparse_moe.", "w1", "w3", "w2"};
  return {layer_prefix(layer) + "mlp.", "gate_proj", "up_proj", "down_proj"};
}

}  // namespace fourmi
