// In what the families of models differ, read from the model section: every question that a layer, the parameter table
// or a count asks about a family is answered here, once.
#pragma once

#include <cstdint>
#include <string>

#include "framework/recipe/recipe.h"

namespace fourmi {

/// Multi-head latent attention (DeepSeek, Kimi), else grouped-query attention.
bool has_latent_attention(const ModelSection& model);
/// Biases of q_proj, k_proj and v_proj (Qwen2 always has them), and of o_proj.
bool has_qkv_bias(const ModelSection& model);
bool has_output_bias(const ModelSection& model);
/// RMSNorm of each query and key head before the rotation (Qwen3).
bool has_head_norm(const ModelSection& model);
/// Keys that a query of this layer sees at most, itself among them; 0: all before it.
std::int64_t attention_window(const ModelSection& model, std::int64_t layer);

/// Channels of a head that scores, and of a head that is summed.
std::int64_t score_head_dim(const ModelSection& model);
std::int64_t value_head_dim(const ModelSection& model);

/// Is layer `layer` (0-based; num_hidden_layers and beyond: the MTP layers) a mixture of experts?
bool is_moe_layer(const ModelSection& model, std::int64_t layer);
/// "model.layers.<layer>."
std::string layer_prefix(std::int64_t layer);

/// Hugging Face's names inside a mixture-of-experts block.
struct MoeNames {
  std::string block;           ///< "mlp."
  std::string gate, up, down;  ///< of an expert
  std::string router() const { return block + "gate.weight"; }
  std::string expert(std::int64_t e, const std::string& what) const;
};
MoeNames moe_names(const ModelSection& model, std::int64_t layer);

}  // namespace fourmi
