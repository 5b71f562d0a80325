// The tensor axis changes nothing that it must not change, alone and with the other axes.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/pipeline/pipeline_recipe.h"
#include "tests/train/runs.h"

namespace fourmi {
namespace {

Recipe wide(Recipe r) {
  r.model.intermediate_size = 64, r.model.moe_intermediate_size = r.model.n_routed_experts > 0 ? 64 : 0;
  r.model.num_attention_heads = 4, r.model.num_key_value_heads = 4;
  return r;
}

Recipe recipe_of(bool dense, Compute compute, Reproducibility mode) {
  return wide(dense ? deep_dense_recipe(compute, mode) : deep_recipe(compute, mode));
}

Recipe with_tensor(Recipe r, int tensor, Recompute recompute = Recompute::none) {
  r.parallel.tensor = tensor;
  r.memory.recompute = recompute;
  return r;
}

class Tensors : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(DenseOrNot, Tensors, testing::Bool());

TEST_P(Tensors, GradientsAgreeInFp64) {
  const Recipe recipe = recipe_of(GetParam(), Compute::fp64, Reproducibility::run);
  const RunResult one = train_on(recipe, 1, 1);
  for (int tensor : {2, 4})
    for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
      const RunResult many = train_on(with_tensor(recipe, tensor, recompute), tensor, 1);
      EXPECT_NEAR(many.steps[0].loss, one.steps[0].loss, 1e-12);
      EXPECT_NEAR(many.steps[0].grad_norm, one.steps[0].grad_norm, 1e-9 * one.steps[0].grad_norm);
      EXPECT_NEAR(many.steps[0].loss_balance, one.steps[0].loss_balance, 1e-12);
      EXPECT_EQ(many.expert_counts, one.expert_counts);
      for (const auto& [name, expected] : one.gradients) {
        const std::vector<double>& got = many.gradients.at(name);
        double error = 0, norm = 0;
        for (std::size_t i = 0; i < expected.size(); ++i) {
          error += (got[i] - expected[i]) * (got[i] - expected[i]);
          norm += expected[i] * expected[i];
        }
        EXPECT_GT(norm, 0) << name;
        EXPECT_LE(std::sqrt(error), 1e-9 * std::sqrt(norm)) << tensor << " ranks: " << name;
      }
    }
}

TEST_P(Tensors, LayoutModeGivesEqualBits) {
  for (Compute compute : {Compute::fp32, Compute::bf16}) {
    const Recipe recipe = recipe_of(GetParam(), compute, Reproducibility::layout);
    const RunResult one = train_on(recipe, 1, 3);
    expect_equal_bits(one, train_on(with_tensor(recipe, 2, Recompute::full), 2, 3), "2 ranks");
    expect_equal_bits(one, train_on(with_tensor(recipe, 4), 4, 3), "4 ranks");
    expect_equal_bits(one, train_on(with_tensor(recipe, 2), 4, 3), "2 x 2 data ranks");
    for (std::string_view schedule : {"1f1b", "zb-v"})
      expect_equal_bits(one, train_on(with_pipeline(with_tensor(recipe, 2), schedule, 2), 8, 3),
                        "2 x 2 stages x 2 data ranks, " + std::string(schedule));
  }
}

TEST_P(Tensors, MeasureTellsTheMemoryToTheByte) {
  for (Recompute recompute : {Recompute::none, Recompute::full}) {
    const Recipe recipe = with_tensor(recipe_of(GetParam(), Compute::bf16, Reproducibility::run), 2, recompute);
    const RunResult run = train_on(recipe, 4, 1);
    std::int64_t most = 0, predicted = 0;
    for (const Engine::Memory& rank : run.memory) {
      std::int64_t bytes = 0;
      for (const auto& [name, size] : rank) bytes += size;
      most = std::max(most, bytes);
    }
    for (const auto& [name, size] : Engine::measure(recipe, 4)) predicted += size;
    EXPECT_EQ(most, predicted);
  }
}

}  // namespace
}  // namespace fourmi
