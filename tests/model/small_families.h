// One tiny model of every family besides DeepSeek-V3, which between them have every option: biases, head norms, tied
// embeddings, windows, stretched rotary embeddings, blocks without experts in between.
#pragma once

#include "tests/model/small_model.h"

namespace fourmi {

struct Family {
  const char* name;
  ModelSection section;
};
inline void PrintTo(const Family& f, std::ostream* out) {
  *out << f.name;
}

inline ModelSection small_gqa(const std::string& model_type) {
  ModelSection m;
  m.model_type = model_type;
  m.vocab_size = 24, m.hidden_size = 16, m.num_hidden_layers = 2, m.intermediate_size = 12;
  m.num_attention_heads = 4, m.num_key_value_heads = 2, m.head_dim = 6;
  m.max_position_embeddings = 64, m.initializer_range = 0.3;
  m.scoring_func = "softmax", m.topk_method = "greedy";
  return m;
}

inline std::vector<Family> small_families() {
  ModelSection qwen2 = small_gqa("qwen2");
  qwen2.tie_word_embeddings = true;
  qwen2.use_sliding_window = true, qwen2.sliding_window = 3, qwen2.max_window_layers = 1;

  ModelSection qwen3 = small_gqa("qwen3");
  qwen3.tie_word_embeddings = true;
  qwen3.rope_scaling = RopeScaling{.type = "yarn", .factor = 4, .original_max_position_embeddings = 16};
  qwen3.use_sliding_window = true, qwen3.sliding_window = 2,
  qwen3.layer_types = {"sliding_attention", "full_attention"};

  ModelSection qwen3_moe = small_gqa("qwen3_moe");
  qwen3_moe.num_hidden_layers = 3, qwen3_moe.attention_bias = true;
  qwen3_moe.n_routed_experts = 4, qwen3_moe.num_experts_per_tok = 2, qwen3_moe.moe_intermediate_size = 5;
  qwen3_moe.decoder_sparse_step = 1, qwen3_moe.mlp_only_layers = {1};

  ModelSection llama = small_gqa("llama");
  llama.attention_bias = true, llama.num_key_value_heads = 1;
  llama.rope_scaling = RopeScaling{.type = "llama3",
                                   .factor = 8,
                                   .original_max_position_embeddings = 16,
                                   .low_freq_factor = 1,
                                   .high_freq_factor = 4};

  ModelSection mixtral = small_gqa("mixtral");
  mixtral.n_routed_experts = 4, mixtral.num_experts_per_tok = 2,
  mixtral.moe_intermediate_size = mixtral.intermediate_size = 7;
  mixtral.use_sliding_window = true, mixtral.sliding_window = 5, mixtral.max_window_layers = 0;

  ModelSection dense = small_section();  // DeepSeek-V3 whose blocks are all dense, its MTP block too
  dense.first_k_dense_replace = dense.num_hidden_layers, dense.tie_word_embeddings = true;

  ModelSection sparse = small_section(false);  // DeepSeek-V2 with experts in every second block
  sparse.first_k_dense_replace = 0, sparse.moe_layer_freq = 2;

  return {{"qwen2", qwen2},     {"qwen3", qwen3},          {"qwen3_moe", qwen3_moe},   {"llama", llama},
          {"mixtral", mixtral}, {"dense_deepseek", dense}, {"sparse_deepseek", sparse}};
}

/// Moves norms and biases away from their initial ones and zeros, at which mistakes may cancel.
inline void stir_vectors(SmallModel& m) {
  for (const Parameter& p : m.table.all()) {
    if (p.set != ParameterSet::full_precision || p.shape.rank != 1) continue;
    const Tensor w = m.store.weight(m.store.slot(p.name));
    for (std::int64_t i = 0; i < w.num_elements(); ++i) {
      const double x = (p.initialisation == Initialisation::ones ? 1.0 : 0.0) +
                       0.3 * random_normal(random_key(11, "test", p.name), static_cast<std::uint64_t>(i));
      if (w.dtype == DType::f64)
        w.as<double>()[i] = x;
      else
        w.as<float>()[i] = static_cast<float>(x);
    }
  }
}

}  // namespace fourmi
