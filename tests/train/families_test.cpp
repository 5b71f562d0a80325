// Grouped-query attention trains as latent attention does: mode layout sees neither ranks nor micro-batches, recompute
// changes no bit, and measured memory is the memory used.
#include "tests/train/family_recipe.h"
#include "tests/train/runs.h"

namespace fourmi {
namespace {

class Family : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, Family, testing::Values(dense_family, sparse_family),
                         [](const auto& family) { return std::string(family.index == 0 ? "dense" : "sparse"); });

TEST_P(Family, LayoutModeGivesEqualBits) {
  for (Compute compute : {Compute::fp32, Compute::bf16}) {
    const RunResult reference = train_on(family_recipe(GetParam(), compute, Reproducibility::layout, 1), 1, 3);
    for (auto [ranks, micro_batch] : {std::pair{1, 4}, {2, 2}, {4, 1}, {8, 1}})
      expect_equal_bits(reference,
                        train_on(family_recipe(GetParam(), compute, Reproducibility::layout, micro_batch), ranks, 3),
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
    EXPECT_EQ(again.memory[0], Engine::measure(r, 1));
  }
}

TEST_P(Family, LossFalls) {
  const RunResult r = train_on(family_recipe(GetParam(), Compute::bf16, Reproducibility::run, 4), 1, 40);
  EXPECT_LT(r.steps.back().loss, r.steps.front().loss - 0.3);
}

}  // namespace
}  // namespace fourmi
