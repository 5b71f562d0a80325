// Grouped-query attention trains as latent attention does: mode layout sees neither ranks nor micro-batches, recompute changes no bit,
// and measured memory is the memory used.
#include "tests/train/runs.h"

namespace fourmi {
namespace {

Recipe family_recipe(const std::string& model, Compute compute, Reproducibility mode, std::int64_t micro_batch_size = 1) {
  const std::string text = small_recipe_text();
  const std::size_t begin = text.find("model:\n"), data = text.find("data:");
  Recipe r = parse_recipe(text.substr(0, begin) + model + text.substr(data), "small");
  r.precision.compute = compute;
  r.run.reproducibility = mode;
  r.data.micro_batch_size = micro_batch_size;
  return r;
}

constexpr const char* common = R"(
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
const std::string dense = std::string("model:\n  model_type: qwen3\n  tie_word_embeddings: true\n  attention_bias: true\n  use_sliding_window: true\n"
                                      "  sliding_window: 9\n  max_window_layers: 1") + common;
const std::string sparse = std::string("model:\n  model_type: mixtral\n  num_local_experts: 8\n  num_experts_per_tok: 2\n  sliding_window: 12") + common;

class Family : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, Family, testing::Values(dense, sparse),
                         [](const auto& family) { return std::string(family.index == 0 ? "dense" : "sparse"); });

TEST_P(Family, LayoutModeGivesEqualBits) {
  for (Compute compute : {Compute::fp32, Compute::bf16}) {
    const RunResult reference = train_on(family_recipe(GetParam(), compute, Reproducibility::layout, 1), 1, 3);
    for (auto [ranks, micro_batch] : {std::pair{1, 4}, {2, 2}, {4, 1}, {8, 1}})
      expect_equal_bits(reference, train_on(family_recipe(GetParam(), compute, Reproducibility::layout, micro_batch), ranks, 3),
                        fmt::format("{} ranks, micro-batch {}", ranks, micro_batch));
  }
}

TEST_P(Family, RecomputeChangesNoBit) {
  Recipe r = family_recipe(GetParam(), Compute::bf16, Reproducibility::run, 2);
  const RunResult none = train_on(r, 1, 3);
  for (Recompute mode : {Recompute::selective, Recompute::full}) {
    r.memory.recompute = mode;
    const RunResult again = train_on(r, 1, 3);
    expect_equal_bits(none, again, mode == Recompute::full ? "full" : "selective");
    EXPECT_EQ(again.expert_counts, none.expert_counts);
    EXPECT_EQ(again.memory[0], Engine::measure(r, ParameterTable(r.model), 1));
  }
}

TEST_P(Family, LossFalls) {
  const RunResult r = train_on(family_recipe(GetParam(), Compute::bf16, Reproducibility::run, 4), 1, 40);
  EXPECT_LT(r.steps.back().loss, r.steps.front().loss - 0.3);
}

}  // namespace
}  // namespace fourmi
