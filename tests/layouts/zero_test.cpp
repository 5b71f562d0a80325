// ZeRO 2 and 3 change where gradients and weights lie, and nothing else.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/pipeline/pipeline_recipe.h"
#include "tests/train/runs.h"
#include "tests/train/told.h"

namespace fourmi {
namespace {

Recipe recipe_of(bool dense, Compute compute, Reproducibility mode) {
  Recipe r = dense ? deep_dense_recipe(compute, mode) : deep_recipe(compute, mode);
  r.model.intermediate_size = 64, r.model.moe_intermediate_size = r.model.n_routed_experts > 0 ? 64 : 0;
  r.model.num_attention_heads = 4, r.model.num_key_value_heads = 4;
  return r;
}

Recipe with_zero(Recipe r, int level, int tensor = 1, Recompute recompute = Recompute::none) {
  r.parallel.zero = level;
  r.parallel.tensor = tensor;
  r.memory.recompute = recompute;
  return r;
}

class Zero : public testing::TestWithParam<std::tuple<bool, int>> {
 protected:
  bool dense() const { return std::get<0>(GetParam()); }
  int level() const { return std::get<1>(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(DenseOrNotByLevel, Zero, testing::Combine(testing::Bool(), testing::Values(2, 3)));

TEST_P(Zero, GradientsAgreeInFp64) {
  const Recipe recipe = recipe_of(dense(), Compute::fp64, Reproducibility::run);
  const RunResult one = train_on(recipe, 1, 1);
  expect_agreement(one, train_on(with_zero(recipe, level()), 1, 1), "1 rank");
  for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full})
    expect_agreement(one, train_on(with_zero(recipe, level(), 1, recompute), 4, 1), "4 ranks");
  expect_agreement(one, train_on(with_zero(recipe, level(), 2), 4, 1), "2 x 2 tensor ranks");
  for (std::string_view schedule : schedules_that_train)
    expect_agreement(one, train_on(with_pipeline(with_zero(recipe, level()), schedule, 2), 4, 1),
                     "2 x 2 stages, " + std::string(schedule));
}

// Five micro-batches in turn, three steps: a gradient that stays in memory, or weights of the step before, would show.
TEST_P(Zero, LayoutModeGivesEqualBits) {
  for (Compute compute : {Compute::fp32, Compute::bf16}) {
    const Recipe recipe = recipe_of(dense(), compute, Reproducibility::layout);
    const RunResult one = train_on(recipe, 1, 3);
    expect_equal_bits(one, train_on(with_zero(recipe, level()), 1, 3), "1 rank");
    expect_equal_bits(one, train_on(with_zero(recipe, level(), 1, Recompute::full), 4, 3), "4 ranks");
    expect_equal_bits(one, train_on(with_zero(recipe, level(), 2), 4, 3), "2 x 2 tensor ranks");
    for (std::string_view schedule : {"1f1b", "zb-v"})
      expect_equal_bits(one, train_on(with_pipeline(with_zero(recipe, level(), 2), schedule, 2), 8, 3),
                        "2 x 2 tensor ranks x 2 stages, " + std::string(schedule));
  }
}

std::int64_t bytes_of(const Engine::Memory& memory, std::string_view arena) {
  for (const auto& [name, size] : memory)
    if (name == arena) return size;
  ADD_FAILURE() << "no arena " << arena;
  return 0;
}

TEST_P(Zero, TakesLessMemoryAndMeasureTellsItToTheByte) {
  for (int stages : {1, 2}) {
    const Recipe whole = with_pipeline(recipe_of(dense(), Compute::bf16, Reproducibility::run), "1f1b", stages);
    const Recipe recipe = with_zero(whole, level());
    const RunResult run = train_on(recipe, 4, 1);
    std::int64_t most = 0, predicted = 0;
    for (const Engine::Memory& rank : run.memory) {
      std::int64_t bytes = 0;
      for (const auto& [name, size] : rank) bytes += size;
      most = std::max(most, bytes);
    }
    const Engine::Memory measured = Engine::measure(recipe, 4), before = Engine::measure(whole, 4);
    for (const auto& [name, size] : measured) predicted += size;
    EXPECT_EQ(most, predicted);
    EXPECT_LT(bytes_of(measured, "gradients"), bytes_of(before, "gradients") * 3 / 4);
    if (level() == 3) {
      EXPECT_LT(bytes_of(measured, "weights"), bytes_of(before, "weights") * 3 / 4);
    } else {
      EXPECT_EQ(bytes_of(measured, "weights"), bytes_of(before, "weights"));
    }
  }
}

constexpr const char* spoiled = "model.layers.3.self_attn.o_proj.weight";

/// Element [9, 6] of it, where this rank has it: 24 columns, or a half of them on two tensor ranks.
void spoil(const Parameter& p, std::int64_t first_row, const Tensor& rows) {
  const std::int64_t row = 9 - p.first_row - first_row, column = 6 - p.first_column;
  if (p.name != spoiled || row < 0 || row >= rows.dim(0) || column < 0 || column >= rows.dim(1)) return;
  rows.as<float>()[row * rows.dim(1) + column] = std::numeric_limits<float>::quiet_NaN();
}

TEST(ZeroNonFinite, ABadWeightIsNamedByItsOwner) {
  for (int tensor : {1, 2}) {
    const auto words = told(with_zero(recipe_of(false, Compute::fp32, Reproducibility::run), 3, tensor), 4,
                            [](Engine& engine, int) { engine.optimizer().visit_weights(spoil); });
    ASSERT_EQ(words.size(), 1u);
    EXPECT_NE(words.begin()->find(fmt::format("the weight of {} is NaN at [9, 6] on rank", spoiled)), std::string::npos)
        << *words.begin();
  }
}

TEST(ZeroNonFinite, ABadGradientIsNamedAfterItsSum) {
  for (int level : {2, 3}) {
    const auto words = told(
        with_zero(recipe_of(false, Compute::fp32, Reproducibility::run), level), 2, [](Engine&, int) {},
        [](Engine& engine, int) { engine.optimizer().visit_gradients(spoil); });
    ASSERT_EQ(words.size(), 1u);
    EXPECT_NE(words.begin()->find(fmt::format("the sum over ranks of the gradient of {} is NaN at [9, 6]", spoiled)),
              std::string::npos)
        << *words.begin();
  }
}

}  // namespace
}  // namespace fourmi
