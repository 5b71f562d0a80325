// Sizes whose cuts fall on blocks of 128, for precisions whose elements share scales among these.
#pragma once

#include <algorithm>
#include <utility>

#include "framework/recipe/recipe.h"

namespace fourmi {

/// Every precision whose elements share scales, by a name for messages.
inline const std::pair<const char*, PrecisionSection> precisions_of_eight[] = {
    {"fp8-block", {.compute = Compute::fp8_block}},
    {"fp8-tensor", {.compute = Compute::fp8_tensor}},
    {"mxfp8", {.compute = Compute::mxfp8}},
    {"gradients 128x128", {.compute = Compute::fp8_block, .gradient_block = GradientBlock::square}},
};
/// The same, with other scales.
inline const std::pair<const char*, PrecisionSection> precisions_with_fp32_scales[] = {
    {"fp8-block, fp32 scales", {.compute = Compute::fp8_block, .scale_format = ScaleFormat::fp32}},
    {"fp8-tensor, fp32 scales", {.compute = Compute::fp8_tensor, .scale_format = ScaleFormat::fp32}},
};
/// Is it equal on every layout?
inline bool has_mode_layout(const PrecisionSection& p) {
  return p.compute != Compute::fp8_tensor && p.gradient_block == GradientBlock::row;
}
inline Recipe with_precision(Recipe r, const PrecisionSection& precision) {
  r.precision = precision;
  return r;
}

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
