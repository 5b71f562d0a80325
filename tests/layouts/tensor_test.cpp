// The tensor axis changes nothing that it must not change, alone and with the other axes.
#include <gtest/gtest.h>

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
      expect_agreement(one, many, std::to_string(tensor) + " ranks");
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
    EXPECT_EQ(most_bytes(train_on(recipe, 4, 1)), measured_bytes(recipe, 4));
  }
}

}  // namespace
}  // namespace fourmi
