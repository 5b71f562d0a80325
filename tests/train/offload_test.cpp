// Optimizer state in host memory: the same bits, through panels of bounded size.
#include <gtest/gtest.h>

#include "framework/train/dry_run.h"
#include "tests/train/runs.h"

namespace fourmi {
namespace {

/// Embedding and head have more elements than a panel, so each takes several.
Recipe wide_recipe(Compute compute, Moments moments) {
  Recipe r = small_recipe(compute, Reproducibility::run, 2);
  r.model.vocab_size = 80'000;
  r.model.hidden_size = 32;
  r.data.global_batch_size = 4;
  r.precision.moments = moments;
  return r;
}

TEST(Offload, GivesTheBitsOfStateOnTheDevice) {
  for (const auto& [compute, moments, ranks] : {std::tuple{Compute::fp32, Moments::fp32, 1},
                                                {Compute::bf16, Moments::bf16, 1},
                                                {Compute::bf16, Moments::fp32, 2}}) {
    Recipe recipe = wide_recipe(compute, moments);
    ASSERT_GT(recipe.model.vocab_size * recipe.model.hidden_size, 2 * Staging::most_elements);
    const RunResult device = train_on(recipe, ranks, 2);
    recipe.memory.offload_optimizer = true;
    const RunResult host = train_on(recipe, ranks, 2);
    expect_equal_bits(device, host, fmt::format("{} ranks", ranks));
    ASSERT_FALSE(host.weights.empty());
  }
}

std::int64_t bytes_of_arena(const Recipe& recipe, std::size_t arena) {
  return Engine::measure(recipe, 1)[arena].second;
}

TEST(Offload, PanelsAreBoundedAndTheRestStays) {
  Recipe recipe = wide_recipe(Compute::bf16, Moments::fp32);
  const Engine::Memory device = Engine::measure(recipe, 1);
  recipe.memory.offload_optimizer = true;
  const Engine::Memory host = Engine::measure(recipe, 1);
  constexpr std::size_t staging = 5;
  ASSERT_STREQ(Arenas::names[staging], "staging");
  for (std::size_t a = 0; a < Arenas::count; ++a) EXPECT_TRUE(a == staging || host[a] == device[a]) << host[a].first;
  EXPECT_EQ(device[staging].second, 0);
  // Two panels of a master and two moments, whatever the model.
  EXPECT_EQ(host[staging].second, 2 * Staging::most_elements * (4 + 4 + 4));
  recipe.model.vocab_size *= 10;
  EXPECT_EQ(bytes_of_arena(recipe, staging), host[staging].second);
  recipe.model.vocab_size = 320;  // smaller tensors than a panel: no more than they need
  EXPECT_LT(bytes_of_arena(recipe, staging), std::int64_t{320} * 32 * 2 * 12 + 6 * Arena::alignment + 1);
}

TEST(Offload, TheDryRunNamesThePlace) {
  Recipe recipe = small_recipe(Compute::bf16, Reproducibility::run);
  EXPECT_TRUE(dry_run(recipe, 1).arenas_on_host.empty());
  recipe.memory.offload_optimizer = true;
  const DryRun run = dry_run(recipe, 1);
  EXPECT_EQ(run.arenas_on_host, std::vector<std::string>{"optimizer"});
  EXPECT_NE(to_text(run, recipe).find(" bytes in host memory\n"), std::string::npos);
}

}  // namespace
}  // namespace fourmi
