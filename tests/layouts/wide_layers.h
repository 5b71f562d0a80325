// Models for tests of what the tensor axis' calls cost: on 2 ranks their products take longer than a call of 5 ms.
#pragma once

#include "tests/train/family_recipe.h"
#include "tests/train/runs.h"

namespace fourmi {

/// Layers whose products take longer than a call.
inline Recipe wide(Recipe r) {
  r.model.hidden_size = 512;
  r.model.num_attention_heads = r.model.num_key_value_heads = 8;
  r.model.intermediate_size = 1024;
  r.model.num_nextn_predict_layers = 0;
  r.model.num_hidden_layers = 3;
  r.data.sequence_length = r.model.max_position_embeddings = 1024;
  r.data.global_batch_size = 1;
  r.parallel.tensor = 2;
  return r;
}

inline Recipe wide_latent() {
  Recipe r = wide(small_recipe(Compute::fp32, Reproducibility::run));
  r.model.q_lora_rank = 256, r.model.kv_lora_rank = 256;
  r.model.qk_nope_head_dim = r.model.v_head_dim = 128, r.model.qk_rope_head_dim = 32;
  r.model.moe_intermediate_size = 512, r.model.n_routed_experts = 8;
  return r;
}

inline Recipe wide_grouped() {
  Recipe r = wide(family_recipe(dense_family, Compute::fp32, Reproducibility::run));
  r.model.head_dim = 128;
  r.model.layer_types.clear();
  return r;
}

/// With latent attention and experts, or dense with grouped queries.
inline Recipe wide_recipe(bool latent) {
  return latent ? wide_latent() : wide_grouped();
}

}  // namespace fourmi
