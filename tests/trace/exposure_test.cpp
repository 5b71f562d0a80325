// Calls that end late are exposed communication, each of the kind that it is of.
#include <gtest/gtest.h>

#include <numeric>

#include "tests/pipeline/pipeline_recipe.h"
#include "tests/trace/traced_run.h"

namespace fourmi {
namespace {

double exposed(const TracedRank& rank, std::initializer_list<Wait> kinds) {
  double sum = 0;
  for (Wait w : kinds) sum += static_cast<double>(rank.waits[static_cast<std::size_t>(w)]) * 1e-9;
  return sum;
}

Lateness::Time of_groups(const TracedRank& rank, std::initializer_list<std::string_view> names) {
  Lateness::Time sum;
  for (const auto& [name, time] : rank.late.by_group)
    if (std::find(names.begin(), names.end(), name) != names.end())
      sum.waited += time.waited, sum.slept += time.slept, sum.calls += time.calls;
  return sum;
}

double seconds(std::chrono::nanoseconds t) {
  return std::chrono::duration<double>(t).count();
}

/// The groups know how long their rank waited in them; the timeline says for what.
void expect_exposed(const TracedRank& rank, std::initializer_list<Wait> kinds,
                    std::initializer_list<std::string_view> groups, int least_calls) {
  const Lateness::Time time = of_groups(rank, groups);
  SCOPED_TRACE(fmt::format("{} ...: waited {:.4f} s, slept {:.4f} s", *groups.begin(), seconds(time.waited),
                           seconds(time.slept)));
  EXPECT_GE(time.calls, least_calls);
  EXPECT_GE(exposed(rank, kinds), time.calls * seconds(rank.late.delay)) << "each delay is exposed";
  EXPECT_NEAR(exposed(rank, kinds), seconds(time.waited), 0.03 * seconds(time.waited) + 0.02);
}

void expect_within_step(const TracedRank& rank) {
  const std::int64_t all = std::accumulate(rank.waits.begin(), rank.waits.end(), std::int64_t{0});
  EXPECT_LE(all, rank.step_nanoseconds);
}

const TracedRun late{.delay = std::chrono::milliseconds(4)};

TEST(Exposure, PipelineAndTensor) {
  Recipe recipe = with_pipeline(deep_recipe(Compute::fp32, Reproducibility::run), "1f1b", 2);
  recipe.parallel.tensor = 2;
  for (const TracedRank& rank : run_traced(recipe, 4, late)) {
    expect_exposed(rank, {Wait::pipeline}, {RankGroups::pipeline_name}, 8);
    expect_exposed(rank, {Wait::tensor}, {RankGroups::tensor_name}, 16);
    expect_within_step(rank);
    EXPECT_EQ(exposed(rank, {Wait::dispatch, Wait::combine, Wait::context}), 0);
  }
}

TEST(Exposure, DispatchCombineAndData) {
  Recipe recipe = small_recipe(Compute::fp32, Reproducibility::run);
  recipe.parallel.expert = 2;
  for (const TracedRank& rank : run_traced(recipe, 4, late)) {
    expect_exposed(rank, {Wait::dispatch, Wait::combine}, {RankGroups::expert_name}, 8);
    for (Wait w : {Wait::dispatch, Wait::combine})
      EXPECT_GT(exposed(rank, {w}), 8 * seconds(rank.late.delay)) << name_of(w);
    // Gradients and weights, and what all agree on: both in the world and in groups of copies.
    expect_exposed(rank, {Wait::data, Wait::other}, {"world", "expert_data", "data x context", "stage", "data"}, 4);
    EXPECT_GT(exposed(rank, {Wait::data}), seconds(late.delay));
    expect_within_step(rank);
    EXPECT_EQ(exposed(rank, {Wait::tensor, Wait::pipeline, Wait::context}), 0);
  }
}

TEST(Exposure, Context) {
  Recipe recipe = small_recipe(Compute::fp32, Reproducibility::run);
  recipe.parallel.context = 2;
  for (const TracedRank& rank : run_traced(recipe, 4, late)) {
    expect_exposed(rank, {Wait::context}, {RankGroups::context_name}, 8);
    expect_within_step(rank);
    EXPECT_EQ(exposed(rank, {Wait::tensor, Wait::pipeline}), 0);
  }
}

/// Two ranks: every axis is the world, and the span that makes the call says what it is for.
TEST(Exposure, OfAWorldThatIsEveryGroup) {
  Recipe recipe = small_recipe(Compute::fp32, Reproducibility::run);
  recipe.parallel.tensor = 2;
  for (const TracedRank& rank : run_traced(recipe, 2, late)) {
    EXPECT_GT(exposed(rank, {Wait::tensor}), 0.8 * seconds(of_groups(rank, {"world"}).waited));
    EXPECT_GT(exposed(rank, {Wait::data}), 0);
    expect_within_step(rank);
  }
}

TEST(Exposure, FiguresAreSecondsAndTheirSum) {
  Waits waits{};
  waits[static_cast<std::size_t>(Wait::dispatch)] = 1'500'000;
  waits[static_cast<std::size_t>(Wait::data)] = 250'000'400;
  const auto figures = exposure_figures(waits);
  ASSERT_EQ(figures.size(), 3u);
  EXPECT_EQ(figures[0], (std::pair<std::string, double>{"exposed_dispatch", 0.0015}));
  EXPECT_EQ(figures[1], (std::pair<std::string, double>{"exposed_data", 0.25}));
  EXPECT_EQ(figures[2].first, "exposed_communication");
  EXPECT_NEAR(figures[2].second, 0.2515, 1e-6);
  EXPECT_TRUE(exposure_figures({}).empty());
}

}  // namespace
}  // namespace fourmi
