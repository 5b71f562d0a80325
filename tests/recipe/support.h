// What the tests of recipes share.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "framework/recipe/read.h"

namespace fourmi::testing {

inline std::filesystem::path root() {
  return FOURMI_SOURCE_DIR;
}

inline std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A small recipe that is valid; tests break it.
inline const std::string& small_recipe() {
  static const std::string text = R"(run:
  name: small
  steps: 10
model:
  model_type: deepseek_v3
  vocab_size: 320
  hidden_size: 64
  num_hidden_layers: 2
  num_nextn_predict_layers: 1
  first_k_dense_replace: 1
  intermediate_size: 128
  moe_intermediate_size: 32
  n_routed_experts: 8
  n_shared_experts: 1
  num_experts_per_tok: 2
  n_group: 4
  topk_group: 2
  norm_topk_prob: true
  num_attention_heads: 4
  q_lora_rank: 16
  kv_lora_rank: 16
  qk_nope_head_dim: 8
  qk_rope_head_dim: 8
  v_head_dim: 8
  max_position_embeddings: 64
loss: {router_bias_rate: 1.0e-3}
data:
  sequence_length: 32
  global_batch_size: 8
  micro_batch_size: 2
  train:
    - {name: web, path: /data/web.txt, weight: 2}
    - {name: made-up, format: synthetic}
  validation: {holdout: 0.1}
optimizer: {learning_rate: 1.0e-3, betas: [0.9, 0.95]}
schedule: {name: cosine, warmup_steps: 2, decay_end_step: 10, final_ratio: 0.1}
evaluation: {every: 5}
checkpoint: {every: 5, keep: {last: 2}}
)";
  return text;
}

/// The small recipe with `from` (which must stand there once) replaced.
inline std::string with(const std::string& from, const std::string& to, std::string text = small_recipe()) {
  const std::size_t at = text.find(from);
  if (at == std::string::npos || text.find(from, at + 1) != std::string::npos) {
    return "the test replaces what is not there once: " + from;
  }
  return text.replace(at, from.size(), to);
}

/// All errors; none where the recipe is valid.
inline std::vector<RecipeIssue> issues_of(const std::string& text, const std::vector<std::string>& overrides = {},
                                          int ranks = 0) {
  try {
    parse_recipe(text, "recipe", overrides, ranks);
  } catch (const RecipeErrors& errors) {
    return errors.issues();
  }
  return {};
}

inline std::string all_of(const std::vector<RecipeIssue>& issues) {
  std::string out;
  for (const RecipeIssue& issue : issues) out += issue.text() + "\n";
  return out;
}

/// A folder that is removed at the end.
class Folder {
 public:
  explicit Folder(const std::string& name)
      : path_(std::filesystem::temp_directory_path() / ("fourmi-recipe-" + name + "-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~Folder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
    return (path_ / name).string();
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace fourmi::testing
