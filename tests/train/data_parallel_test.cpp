// Data parallelism changes nothing that it must not change: the same global batch on 1, 2 and 4 ranks.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/train/runs.h"

namespace fourmi {
namespace {

TEST(DataParallel, GradientsAgreeInFp64) {
  const Recipe recipe = small_recipe(Compute::fp64, Reproducibility::run);
  const RunResult one = train_on(recipe, 1, 1);
  for (int ranks : {2, 4}) {
    const RunResult many = train_on(recipe, ranks, 1);
    ASSERT_EQ(one.gradients.size(), many.gradients.size());
    for (const auto& [name, expected] : one.gradients) {
      const std::vector<double>& got = many.gradients.at(name);
      double error = 0, norm = 0;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        error += (got[i] - expected[i]) * (got[i] - expected[i]);
        norm += expected[i] * expected[i];
      }
      EXPECT_GT(norm, 0) << name;
      EXPECT_LE(std::sqrt(error), 1e-9 * std::sqrt(norm)) << name << " on " << ranks << " ranks";
    }
    EXPECT_NEAR(many.steps[0].grad_norm, one.steps[0].grad_norm, 1e-9 * one.steps[0].grad_norm);
  }
}

TEST(DataParallel, LayoutModeGivesEqualBits) {
  for (Compute compute : {Compute::fp32, Compute::bf16}) {
    const RunResult reference = train_on(small_recipe(compute, Reproducibility::layout, 1), 1, 4);
    for (auto [ranks, micro_batch] : {std::pair{1, 4}, {2, 1}, {2, 2}, {4, 1}, {4, 2}, {8, 1}})
      expect_equal_bits(
          reference, train_on(small_recipe(compute, Reproducibility::layout, micro_batch), ranks, 4),
          fmt::format("{} ranks, micro-batch {}, {}", ranks, micro_batch, compute == Compute::bf16 ? "bf16" : "fp32"));
  }
}

TEST(DataParallel, RunModeRepeatsItsBits) {
  for (int ranks : {1, 4})
    expect_equal_bits(train_on(small_recipe(Compute::bf16, Reproducibility::run), ranks, 3),
                      train_on(small_recipe(Compute::bf16, Reproducibility::run), ranks, 3),
                      fmt::format("{} ranks twice", ranks));
}

TEST(DataParallel, LossFalls) {
  const RunResult r = train_on(small_recipe(Compute::bf16, Reproducibility::run, 4), 1, 60);
  EXPECT_LT(r.steps.back().loss, r.steps.front().loss - 0.3);
  EXPECT_LT(r.steps.back().loss_mtp, r.steps.front().loss_mtp - 0.1);
}

}  // namespace
}  // namespace fourmi
