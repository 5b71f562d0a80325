// A pipeline changes nothing that it must not change: the same global batch on one rank, and on stages under every
// schedule.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/pipeline/pipeline_recipe.h"
#include "tests/train/runs.h"

namespace fourmi {
namespace {

void expect_gradients_agree(const RunResult& one, const RunResult& many, const std::string& what) {
  EXPECT_NEAR(many.steps[0].loss, one.steps[0].loss, 1e-12) << what;
  EXPECT_NEAR(many.steps[0].grad_norm, one.steps[0].grad_norm, 1e-9 * one.steps[0].grad_norm) << what;
  ASSERT_EQ(one.gradients.size(), many.gradients.size()) << what;
  for (const auto& [name, expected] : one.gradients) {
    const std::vector<double>& got = many.gradients.at(name);
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      error += (got[i] - expected[i]) * (got[i] - expected[i]);
      norm += expected[i] * expected[i];
    }
    EXPECT_GT(norm, 0) << name;
    EXPECT_LE(std::sqrt(error), 1e-9 * std::sqrt(norm)) << what << ": " << name;
  }
}

class EverySchedule : public testing::TestWithParam<std::string_view> {};
std::string name_of_schedule(const testing::TestParamInfo<std::string_view>& info) {
  std::string name(info.param);
  for (char& c : name)
    if (c == '-') c = '_';
  return "S" + name;
}
INSTANTIATE_TEST_SUITE_P(Schedules, EverySchedule, testing::ValuesIn(schedules_that_train), name_of_schedule);

TEST_P(EverySchedule, GradientsAgreeInFp64) {
  for (bool dense : {false, true}) {
    const Recipe recipe = dense ? deep_dense_recipe(Compute::fp64, Reproducibility::run)
                                : deep_recipe(Compute::fp64, Reproducibility::run);
    const RunResult one = train_on(recipe, 1, 1);
    for (int ranks : {2, 4})
      for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full})
        expect_gradients_agree(
            one, train_on(with_pipeline(recipe, GetParam(), ranks, recompute), ranks, 1),
            fmt::format("{}, {} ranks, recompute {}", dense ? "dense" : "experts", ranks, static_cast<int>(recompute)));
  }
}

TEST_P(EverySchedule, LayoutModeGivesEqualBits) {
  for (Compute compute : {Compute::fp32, Compute::bf16})
    for (bool dense : {false, true}) {
      const Recipe recipe =
          dense ? deep_dense_recipe(compute, Reproducibility::layout) : deep_recipe(compute, Reproducibility::layout);
      const RunResult one = train_on(recipe, 1, 3);
      for (int ranks : {2, 4})
        expect_equal_bits(
            one,
            train_on(with_pipeline(recipe, GetParam(), ranks, ranks == 2 ? Recompute::full : Recompute::selective),
                     ranks, 3),
            fmt::format("{}, {} ranks, {}", dense ? "dense" : "experts", ranks,
                        compute == Compute::bf16 ? "bf16" : "fp32"));
    }
}

TEST_P(EverySchedule, MixesWithDataRanks) {
  for (bool dense : {false, true}) {
    Recipe recipe = dense ? deep_dense_recipe(Compute::bf16, Reproducibility::layout)
                          : deep_recipe(Compute::bf16, Reproducibility::layout);
    const RunResult one = train_on(recipe, 1, 3);
    expect_equal_bits(one, train_on(with_pipeline(recipe, GetParam(), 2), 4, 3), "2 stages x 2 data ranks");
  }
}

std::vector<Action> apart(const std::vector<Action>& list) {
  std::vector<Action> single;
  for (const Action& a : list) {
    single.push_back({a.verb == Verb::pair ? Verb::forward : a.verb, a.pass, {}});
    if (a.verb == Verb::pair) single.push_back({Verb::backward, a.behind, {}});
  }
  return single;
}

TEST_P(EverySchedule, TheExecutorDoesWhatTheListSays) {
  const Recipe recipe = with_pipeline(deep_recipe(Compute::fp32, Reproducibility::run), GetParam(), 4);
  const RunResult run = train_on(recipe, 4, 2);
  const Schedule schedule = schedule_of(recipe, 8);
  for (std::size_t rank = 0; rank < 4; ++rank) {
    const std::vector<Action> list = apart(schedule.actions[rank]);
    ASSERT_EQ(run.done[rank].size(), list.size());
    for (std::size_t i = 0; i < list.size(); ++i) {
      EXPECT_EQ(run.done[rank][i].verb, list[i].verb) << "rank " << rank << " action " << i;
      EXPECT_EQ(run.done[rank][i].pass, list[i].pass) << "rank " << rank << " action " << i;
    }
  }
}

TEST_P(EverySchedule, MeasureTellsTheMemoryToTheByte) {
  for (Recompute recompute : {Recompute::none, Recompute::full}) {
    const Recipe recipe = with_pipeline(deep_recipe(Compute::bf16, Reproducibility::run), GetParam(), 2, recompute);
    const RunResult run = train_on(recipe, 4, 1);
    const Engine::Memory measured = Engine::measure(recipe, 4);
    std::int64_t most = 0, predicted = 0;
    for (const Engine::Memory& rank : run.memory) {
      std::int64_t bytes = 0;
      for (const auto& [name, size] : rank) bytes += size;
      most = std::max(most, bytes);
    }
    for (const auto& [name, size] : measured) predicted += size;
    EXPECT_EQ(most, predicted);
  }
}

TEST(Pipeline, ARankHoldsItsStagesAlone) {
  const Recipe recipe = with_pipeline(deep_recipe(Compute::fp32, Reproducibility::run), "1f1b", 4);
  const Recipe one = deep_recipe(Compute::fp32, Reproducibility::run);
  std::int64_t whole = 0, stage = 0;
  for (const auto& [name, size] : Engine::measure(one, 1)) whole += size;
  for (const auto& [name, size] : Engine::measure(recipe, 4)) stage += size;
  EXPECT_LT(stage, whole / 2);
}

TEST(Pipeline, GivenLayersAreTaken) {
  Recipe recipe = with_pipeline(deep_recipe(Compute::fp64, Reproducibility::run), "1f1b", 2);
  const RunResult one = train_on(deep_recipe(Compute::fp64, Reproducibility::run), 1, 1);
  recipe.parallel.stage_layers = {7, 1};
  EXPECT_EQ(stage_map(recipe).layers[0], (StageLayers{0, 7}));
  expect_gradients_agree(one, train_on(recipe, 2, 1), "7 and 1");
}

TEST(Pipeline, ARampedBatchHasAProgramForEachSize) {
  for (std::string_view schedule : {"1f1b", "zb-v"}) {
    Recipe recipe = deep_recipe(Compute::fp32, Reproducibility::layout);
    recipe.data.global_batch_size.over_tokens.steps = {{0, 4}, {200, 8}};
    expect_equal_bits(train_on(recipe, 1, 4), train_on(with_pipeline(recipe, schedule, 2), 2, 4),
                      std::string(schedule));
  }
}

TEST(Pipeline, RunModeRepeatsItsBits) {
  const Recipe recipe = with_pipeline(deep_recipe(Compute::bf16, Reproducibility::run), "zb-h1", 2);
  expect_equal_bits(train_on(recipe, 4, 3), train_on(recipe, 4, 3), "twice");
}

}  // namespace
}  // namespace fourmi
