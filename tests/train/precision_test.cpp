// Eight bits in linear maps and experts: near bf16, and as exact as the other precisions in all that is promised to the
// bit (docs/precision.md). Layouts are in tests/layouts/matrix_test.cpp.
#include <gtest/gtest.h>

#include "tests/train/blocks.h"
#include "tests/train/family_recipe.h"
#include "tests/train/runs.h"

namespace fourmi {
namespace {

Recipe latent(Compute compute, Reproducibility mode = Reproducibility::run) {
  return in_blocks(small_recipe(compute, mode, 2));
}
Recipe grouped(Compute compute, Reproducibility mode = Reproducibility::run) {
  return in_blocks(family_recipe(dense_family, compute, mode, 2));
}
constexpr std::pair<const char*, Recipe (*)(Compute, Reproducibility)> families[] = {{"latent", latent},
                                                                                     {"grouped", grouped}};

/// Elements of e4m3 are rounded to 2^-4 of themselves, those of bf16 to 2^-9: so much farther from fp32 may a gradient
/// be, of every tensor alike. (What is wrong, and not rounded, is as far as the gradient is long.)
TEST(Eight, GradientsAreAsFarAsItsRounding) {
  for (const auto& [name, family] : families) {
    const RunResult exact = train_on(family(Compute::fp32, Reproducibility::run), 1, 1),
                    bf16 = train_on(family(Compute::bf16, Reproducibility::run), 1, 1),
                    eight = train_on(family(Compute::fp8_block, Reproducibility::run), 1, 1);
    EXPECT_NEAR(eight.steps[0].loss, exact.steps[0].loss, 0.01 * exact.steps[0].loss) << name;
    for (const auto& [tensor, values] : exact.gradients) {
      const double near = relative_error(values, bf16.gradients.at(tensor)),
                   far = relative_error(values, eight.gradients.at(tensor));
      EXPECT_LT(far, std::min(32 * near, 0.9)) << name << ": " << tensor;
      EXPECT_GT(far, near) << name << ": " << tensor;
    }
  }
}

TEST(Eight, Learns) {
  const RunResult bf16 = train_on(latent(Compute::bf16), 1, 30), eight = train_on(latent(Compute::fp8_block), 1, 30);
  const auto last = [](const RunResult& r) {
    double sum = 0;
    for (std::size_t i = 20; i < 30; ++i) sum += r.steps[i].loss / 10;
    return sum;
  };
  EXPECT_LT(last(eight), eight.steps[0].loss * 0.95);
  EXPECT_NEAR(last(eight), last(bf16), 0.1 * last(bf16));
}

TEST(Eight, RecomputationGivesTheBitsOfARunThatKeepsAll) {
  for (const auto& [name, family] : families)
    for (Reproducibility mode : {Reproducibility::run, Reproducibility::layout}) {
      Recipe recipe = family(Compute::fp8_block, mode);
      const RunResult kept = train_on(recipe, 1, 2);
      for (Recompute recompute : {Recompute::selective, Recompute::full}) {
        recipe.memory.recompute = recompute;
        expect_equal_bits(kept, train_on(recipe, 1, 2), fmt::format("{} {}", name, static_cast<int>(recompute)));
      }
      recipe.memory.recompute = Recompute::none;
      expect_equal_bits(kept, train_on(recipe, 1, 2, 2), fmt::format("{}, two threads", name));
    }
}

TEST(Eight, MemoryIsWhatMeasuringTold) {
  for (const auto& [name, family] : families)
    for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
      Recipe recipe = family(Compute::fp8_block, Reproducibility::run);
      recipe.memory.recompute = recompute;
      EXPECT_EQ(train_on(recipe, 1, 2).memory[0], Engine::measure(recipe, 1)) << name;
    }
}

}  // namespace
}  // namespace fourmi
