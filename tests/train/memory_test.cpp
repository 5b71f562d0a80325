// Measure mode tells a run's memory to the byte, before anything is allocated.
#include <gtest/gtest.h>

#include "tests/train/runs.h"

namespace fourmi {
namespace {

TEST(Memory, MeasureEqualsTheRunToTheByte) {
  for (Compute compute : {Compute::fp32, Compute::bf16})
    for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full})
      for (int ranks : {1, 4}) {
        Recipe recipe = small_recipe(compute, ranks == 4 ? Reproducibility::layout : Reproducibility::run, 2);
        recipe.memory.recompute = recompute;
        const RunResult run = train_on(recipe, ranks, 2);
        const Engine::Memory measured = Engine::measure(recipe, ranks);
        ASSERT_EQ(run.memory.size(), static_cast<std::size_t>(ranks));
        for (std::size_t a = 0; a < measured.size(); ++a) {
          std::int64_t most = 0;
          for (const Engine::Memory& rank : run.memory) most = std::max(most, rank[a].second);
          EXPECT_EQ(most, measured[a].second)
              << measured[a].first << " on " << ranks << " ranks, recompute " << static_cast<int>(recompute);
        }
      }
}

}  // namespace
}  // namespace fourmi
