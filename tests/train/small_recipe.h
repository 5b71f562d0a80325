// A recipe that trains in milliseconds: every mechanism of tiny.yaml on synthetic tokens.
#pragma once

#include <string>

#include "framework/recipe/read.h"

namespace fourmi {

inline std::string small_recipe_text() {
  return R"(
run: {name: small, seed: 5, steps: 4}
model:
  model_type: deepseek_v3
  vocab_size: 64
  hidden_size: 32
  num_hidden_layers: 3
  num_nextn_predict_layers: 1
  first_k_dense_replace: 1
  intermediate_size: 48
  moe_intermediate_size: 16
  n_routed_experts: 8
  n_shared_experts: 1
  num_experts_per_tok: 2
  n_group: 4
  topk_group: 2
  scoring_func: sigmoid
  topk_method: noaux_tc
  norm_topk_prob: true
  routed_scaling_factor: 1.0
  num_attention_heads: 4
  q_lora_rank: 16
  kv_lora_rank: 16
  qk_nope_head_dim: 8
  qk_rope_head_dim: 4
  v_head_dim: 8
  max_position_embeddings: 32
  initializer_range: 0.1
loss: {mtp_weight: 0.3, balance_weight: 1.0e-2, router_bias_rate: 1.0e-2}
data:
  tokenizer: bytes
  sequence_length: 32
  global_batch_size: 8
  micro_batch_size: 1
  train: [{name: made, format: synthetic, weight: 1, license: CC0-1.0}]
precision: {compute: fp32, moments: fp32}
optimizer: {name: adamw, learning_rate: 1.0e-2, weight_decay: 0.1, clip_grad_norm: 1.0}
schedule: {name: constant, warmup_steps: 2}
)";
}

inline Recipe small_recipe(Compute compute, Reproducibility mode, std::int64_t micro_batch_size = 1) {
  std::string text = small_recipe_text();
  // The byte tokenizer needs 257 rows; the synthetic source draws from all of the vocabulary.
  text.replace(text.find("vocab_size: 64"), 14, "vocab_size: 320");
  Recipe r = parse_recipe(text, "small");
  r.precision.compute = compute;
  r.run.reproducibility = mode;
  r.data.micro_batch_size = micro_batch_size;
  return r;
}

}  // namespace fourmi
