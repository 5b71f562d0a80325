// The guard of eight bits: what it measures, what it says of a run in good order, and what it does about faults.
#include "framework/train/precision_guard.h"

#include <gtest/gtest.h>

#include "tests/train/blocks.h"
#include "tests/train/eight_bit_faults.h"
#include "tests/train/family_recipe.h"
#include "tests/train/runs.h"

namespace fourmi {
namespace {

using testing::EightBitFault;

Recipe latent(Compute compute = Compute::fp8_block, Reproducibility mode = Reproducibility::run) {
  Recipe r = in_blocks(small_recipe(compute, mode, 2));
  r.guard.precision_every = 10;
  return r;
}

struct Guarded {
  std::vector<StepResult> steps;
  GuardState state;
};

/// A run of one rank under the guard; `fault` from step `from` on.
Guarded guarded(const Recipe& recipe, std::int64_t num_steps, const EightBitFault::Kind* fault = nullptr,
                std::int64_t layer = 0, std::int64_t from = 0) {
  auto group = make_self_group("data");
  ThreadPool pool(1);
  const Stream stream(pool);
  const std::vector<LoadedSource> sources = load_sources(recipe.data.train, "data.train");
  const Loader loader(recipe.data, sources, recipe.run.seed, recipe.model.vocab_size);
  const RankGroups ranks = make_groups(recipe, *group);
  Engine engine(recipe, ranks, stream);
  engine.initialise();
  std::optional<EightBitFault> spoiled;
  if (fault) spoiled.emplace(engine, *fault, layer, from);
  Narrator narrator(false);
  PrecisionGuard guard(recipe, narrator);
  Guarded result;
  Position position = loader.start();
  double tokens = 0;
  const PhaseObserver observer = [](Phase, std::int64_t) {};
  for (std::int64_t s = 1; s <= num_steps; ++s) {
    if (spoiled) spoiled->enter(s);
    const StepPlan plan = loader.plan_step(position);
    result.steps.push_back(guard.step(engine, {loader, plan, s, tokens, observer}, result.state,
                                      [](const StepResult& r) { return r.non_finite.empty(); }));
    tokens += static_cast<double>(plan.num_targets);
    position = plan.next;
  }
  return result;
}

double mean_loss(const Guarded& run, std::size_t steps) {
  double sum = 0;
  for (std::size_t i = run.steps.size() - steps; i < run.steps.size(); ++i) sum += run.steps[i].loss;
  return sum / static_cast<double>(steps);
}

/// The fault begins between two comparisons, in layer 1: it is found by the next, or in the step that it spoils.
void expect_caught(const Recipe& recipe, const EightBitFault::Kind& fault, std::int64_t steps, std::int64_t from,
                   const Guarded& clean, double tolerance) {
  const Guarded run = guarded(recipe, steps, &fault, 1, from);
  const auto num_last = static_cast<std::size_t>(steps / 4);
  ASSERT_EQ(run.state.promoted.size(), 1U) << fault.name;
  const Promotion& p = run.state.promoted[0];
  EXPECT_EQ(p.layer, 1) << fault.name;
  EXPECT_GE(p.step, from) << fault.name;
  EXPECT_LT(p.step, from + recipe.guard.precision_every) << fault.name;
  EXPECT_EQ(run.steps.back().num_promoted, 1) << fault.name;
  EXPECT_LT(mean_loss(run, num_last), mean_loss(clean, num_last) * (1 + tolerance)) << fault.name;
  fmt::print("{}: begins at step {}, layer {} in bf16 from step {}, loss {:.3f}, clean {:.3f}\n", fault.name, from,
             p.layer, p.step, mean_loss(run, num_last), mean_loss(clean, num_last));
}

TEST(PrecisionGuard, SaysNothingOfARunInGoodOrder) {
  const Guarded clean = guarded(latent(), 31);
  EXPECT_TRUE(clean.state.promoted.empty());
  for (const StepResult& s : clean.steps) {
    const bool compared = (&s - clean.steps.data()) % 10 == 0;
    EXPECT_EQ(s.precision.step > 0, compared);
    if (!compared) continue;
    // e4m3 is rounded to 2^-4 of itself at most, uniformly: 2^-4 / sqrt(12) on average over its magnitudes.
    EXPECT_GT(s.precision.operand_error, 0.01);
    EXPECT_LT(s.precision.operand_error, 0.0625);
    EXPECT_GT(s.precision.gradient_gap, 0.01);
    EXPECT_GT(s.precision.loss_gap, 0);
  }
}

TEST(PrecisionGuard, FindsFaultsOfOneLayer) {
  const auto faults = testing::eight_bit_faults();
  Recipe recipe = latent();
  recipe.guard.precision_every = 6;
  recipe.guard.precision_loss_gap = recipe.guard.precision_gradient_gap = 1e3;  // operands alone speak
  const Guarded clean = guarded(recipe, 14);
  for (std::size_t i : {1U, 3U, 6U}) expect_caught(recipe, faults[i], 14, 8, clean, 0.1);
}

std::vector<std::int64_t> expert_counts(const Engine& e) {
  const Tensor& counts = e.expert_counts();
  return {counts.as<std::int64_t>(), counts.as<std::int64_t>() + counts.num_elements()};
}

RunResult compared(const Recipe& recipe, int ranks, bool compare, std::vector<PrecisionGap>* gaps = nullptr) {
  return train_on(recipe, ranks, 3, 1, [=](Engine& e) {
    if (!compare) return;
    const std::vector<LoadedSource> sources = load_sources(recipe.data.train, "data.train");
    const Loader loader(recipe.data, sources, recipe.run.seed, recipe.model.vocab_size);
    const StepPlan plan = loader.plan_step(loader.start());
    const PhaseObserver observer = [](Phase, std::int64_t) {};
    const ShadowStep step{loader, plan, 1, 0, observer};
    const std::vector<std::int64_t> counts = expert_counts(e);
    const PrecisionGap gap = e.compare_precision(step);
    const OperandFigures operand = e.operand_statistics().figures(0, OperandStatistics::Role::gradient);
    const PrecisionGap of_layer = e.gap_of_layer(step, 1);
    EXPECT_EQ(expert_counts(e), counts);
    if (e.groups().world().rank() == 0 && gaps) *gaps = {gap, of_layer, {operand.error, operand.regrouped, true}};
  });
}

/// A comparison changes no bit of the steps after it, and in mode layout finds the same figures in every layout.
TEST(PrecisionGuard, LeavesNoTraceAndFindsTheSameInEveryLayout) {
  Recipe recipe = in_blocks(small_recipe(Compute::fp8_block, Reproducibility::layout), 2);
  recipe.model.num_hidden_layers = 2;
  std::vector<PrecisionGap> one;
  const RunResult plain = compared(recipe, 1, false);
  expect_equal_bits(plain, compared(recipe, 1, true, &one), "one rank");
  ASSERT_EQ(one.size(), 3U);
  EXPECT_GT(one[0].gradient, one[1].gradient);
  EXPECT_GT(one[1].gradient, 0);
  EXPECT_GT(one[0].loss, 0);
  EXPECT_GT(one[2].loss, 0.01);
  const auto in_layout = [&](const char* name, int ranks, const std::function<void(ParallelSection&)>& set) {
    Recipe r = recipe;
    set(r.parallel);
    std::vector<PrecisionGap> here;
    expect_equal_bits(plain, compared(r, ranks, true, &here), name);
    ASSERT_EQ(here.size(), 3U);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(here[i].loss, one[i].loss) << name;
      EXPECT_EQ(here[i].gradient, one[i].gradient) << name;
    }
  };
  in_layout("data, zero 3", 2, [](ParallelSection& p) { p.zero = 3; });
  in_layout("tensor", 2, [](ParallelSection& p) { p.tensor = 2; });
  in_layout("expert", 2, [](ParallelSection& p) { p.expert = 2; });
  in_layout("pipeline", 2, [](ParallelSection& p) { p.pipeline = 2; });
}

/// Mean share of the elements of gradients' operands that their columns change.
double share_that_columns_change(const PrecisionSection& precision) {
  const Recipe recipe = with_precision(latent(), precision);
  double sum = 0;
  train_on(recipe, 1, 1, 1, [&](Engine& e) {
    const std::vector<LoadedSource> sources = load_sources(recipe.data.train, "data.train");
    const Loader loader(recipe.data, sources, recipe.run.seed, recipe.model.vocab_size);
    const StepPlan plan = loader.plan_step(loader.start());
    const PhaseObserver observer = [](Phase, std::int64_t) {};
    e.compare_precision({loader, plan, 1, 0, observer});
    const OperandStatistics& all = e.operand_statistics();
    int count = 0;
    for (std::size_t map = 0; map < all.num_maps(); ++map)
      for (const auto role : {OperandStatistics::Role::activation, OperandStatistics::Role::gradient}) {
        if (!all.has(map)) continue;
        sum += all.figures(map, role).regrouped, ++count;
        EXPECT_EQ(all.figures(map, OperandStatistics::Role::weight).regrouped, 0);
      }
    sum /= count;
  });
  return sum;
}

/// Powers of two change what underflows, scales in fp32 round most elements again, one scale for all changes nothing.
TEST(PrecisionGuard, TellsWhatColumnsChange) {
  const double underflows = share_that_columns_change({.compute = Compute::fp8_block});
  EXPECT_GT(underflows, 0);
  EXPECT_LT(underflows, 0.02);
  EXPECT_GT(share_that_columns_change({.compute = Compute::fp8_block, .scale_format = ScaleFormat::fp32}), 0.3);
  EXPECT_EQ(share_that_columns_change({.compute = Compute::fp8_tensor}), 0);
}

/// Where it promotes nothing it only speaks.
TEST(PrecisionGuard, WarnsAlone) {
  const auto faults = testing::eight_bit_faults();
  Recipe recipe = latent();
  recipe.guard.precision_action = PrecisionAction::warn;
  const Guarded run = guarded(recipe, 11, &faults[6], 1, 5);
  EXPECT_TRUE(run.state.promoted.empty());
  EXPECT_NEAR(run.steps[10].precision.operand_error, 1, 1e-3);
}

/// Faults that no operand shows (a product's own) are found by the gaps, layer by layer.
TEST(PrecisionGuard, TriesLayersWhereNoOperandIsToBlame) {
  const auto faults = testing::eight_bit_faults();
  Recipe recipe = latent();
  recipe.guard.precision_operand_error = 1e3, recipe.guard.precision_gradient_gap = 1;
  const Guarded run = guarded(recipe, 11, &faults[4], 2, 11);
  ASSERT_EQ(run.state.promoted.size(), 1U);
  EXPECT_EQ(run.state.promoted[0], (Promotion{11, 2}));
}

class LongFaults : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Long, LongFaults, ::testing::Values(0));
TEST_P(LongFaults, TenFaultsOfEightBits) {
  const Recipe recipe = latent();
  const Guarded clean = guarded(recipe, 120);
  for (const auto& fault : testing::eight_bit_faults()) expect_caught(recipe, fault, 120, 44, clean, 0.15);
}

}  // namespace
}  // namespace fourmi
