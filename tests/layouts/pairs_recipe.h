// The model and the mesh on which overlapped pairs are measured.
#pragma once

#include "tests/layouts/mixture.h"

namespace fourmi {

/// 4 ranks: 2 of the pipeline (with dualpipev 2 stages of a V each, of two layers), experts over 2.
inline Recipe pairs_recipe(const std::string& schedule, OverlapPairs pairs, std::int64_t width) {
  Recipe r = small_recipe(Compute::fp32, Reproducibility::run);
  ModelSection& m = r.model;
  m.num_hidden_layers = 8, m.num_nextn_predict_layers = 0, m.first_k_dense_replace = 0;
  m.hidden_size = width, m.moe_intermediate_size = width, m.n_shared_experts = 1;
  m.q_lora_rank = m.kv_lora_rank = width / 2;
  m.qk_nope_head_dim = m.v_head_dim = 32, m.qk_rope_head_dim = 16;
  r.data.sequence_length = m.max_position_embeddings = 64;
  r.data.global_batch_size.over_tokens.steps = {{0, 32}};
  const Mixture mixture{.ranks = 4, .pipeline = 2, .expert = 2, .schedule = schedule};
  r = mixture.of(r);
  r.parallel.overlap_pairs = pairs;
  return r;
}

}  // namespace fourmi
