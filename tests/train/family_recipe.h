// Small recipes of families with grouped-query attention, beside small_recipe.h's latent one.
#pragma once

#include <string>

#include "framework/recipe/read.h"
#include "tests/train/small_recipe.h"

namespace fourmi {

inline Recipe family_recipe(const std::string& model, Compute compute, Reproducibility mode,
                            std::int64_t micro_batch_size = 1) {
  const std::string text = small_recipe_text();
  const std::size_t begin = text.find("model:\n"), data = text.find("data:");
  Recipe r = parse_recipe(text.substr(0, begin) + model + text.substr(data), "small");
  r.precision.compute = compute;
  r.run.reproducibility = mode;
  r.data.micro_batch_size = micro_batch_size;
  return r;
}

inline constexpr const char* family_sizes = R"(
  vocab_size: 320
  hidden_size: 32
  num_hidden_layers: 3
  intermediate_size: 48
  num_attention_heads: 4
  num_key_value_heads: 2
  head_dim: 8
  max_position_embeddings: 32
  initializer_range: 0.1
)";
/// Biases, head norms, tied embeddings, a window in all blocks but the first.
inline const std::string dense_family =
    std::string(
        "model:\n  model_type: qwen3\n  tie_word_embeddings: true\n  attention_bias: true\n  use_sliding_window: true\n"
        "  sliding_window: 9\n  max_window_layers: 1") +
    family_sizes;
/// Experts in every block, a window.
inline const std::string sparse_family =
    std::string(
        "model:\n  model_type: mixtral\n  num_local_experts: 8\n  num_experts_per_tok: 2\n  sliding_window: 12") +
    family_sizes;

}  // namespace fourmi
