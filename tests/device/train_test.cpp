// Whole steps of training on a card beside the same on the CPU: every operation, and all that the host does with what
// lies on a device.
#include <gtest/gtest.h>

#include "tests/device/card.h"
#include "tests/train/runs.h"

namespace fourmi {
namespace {

using test::card;

RunResult train_on_card(const Recipe& recipe, int num_steps) {
  return train_on(recipe, 1, num_steps, 1, nullptr, nullptr, &card());
}

TEST(TrainOnCard, AStepInFp64HasTheCpusGradients) {
  const Recipe recipe = small_recipe(Compute::fp64, Reproducibility::run);
  expect_agreement(train_on(recipe, 1, 1), train_on_card(recipe, 1), "fp64");
}

TEST(TrainOnCard, StepsInFp32FollowTheCpus) {
  const Recipe recipe = small_recipe(Compute::fp32, Reproducibility::run);
  const RunResult cpu = train_on(recipe, 1, 3), card = train_on_card(recipe, 3);
  EXPECT_NEAR(card.steps[0].loss, cpu.steps[0].loss, 1e-5 * cpu.steps[0].loss);
  for (std::size_t s = 0; s < 3; ++s) EXPECT_NEAR(card.steps[s].loss, cpu.steps[s].loss, 1e-3 * cpu.steps[s].loss);
  const RunResult cpus_first = train_on(recipe, 1, 1), first = train_on_card(recipe, 1);
  for (const auto& [name, expected] : cpus_first.gradients)
    EXPECT_LE(relative_error(expected, first.gradients.at(name)), 1e-4) << name;
}

}  // namespace
}  // namespace fourmi
