// Sizes whose cuts fall on blocks of 128, for precisions whose elements share scales among these.
#pragma once

#include <algorithm>

#include "framework/recipe/recipe.h"

namespace fourmi {

/// The recipe's model as wide as so many ranks of the tensor and the expert-tensor axis need.
inline Recipe in_blocks(Recipe r, int tensor = 1, int expert_tensor = 1) {
  ModelSection& m = r.model;
  m.hidden_size = 128, m.intermediate_size = 128 * std::max(2, tensor);
  m.num_attention_heads = m.num_key_value_heads = 2 * std::max(2, tensor);
  if (m.n_routed_experts > 0) {
    m.moe_intermediate_size = 128 * std::max(2, expert_tensor);
    if (m.n_shared_experts > 0) m.n_shared_experts = std::max(1, tensor / std::max(2, expert_tensor));
  }
  if (m.kv_lora_rank > 0) {
    m.q_lora_rank = m.q_lora_rank > 0 ? 128 : 0, m.kv_lora_rank = 64;
    m.qk_nope_head_dim = m.qk_rope_head_dim = m.v_head_dim = 64;
  } else {
    m.head_dim = 64;
  }
  return r;
}

}  // namespace fourmi
