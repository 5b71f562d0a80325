// Eight bits on ranks in mode run: every axis trains as one rank in bf16 does, the same run twice is the same run, and
// arenas are what measuring told. (Bits of mode layout: matrix_test.cpp.)
#include <gtest/gtest.h>

#include "tests/layouts/mixture.h"

namespace fourmi {
namespace {

const Mixture axes[] = {
    {.ranks = 2, .tensor = 2}, {.ranks = 2, .context = 2},       {.ranks = 2, .pipeline = 2},
    {.ranks = 2, .expert = 2}, {.ranks = 2, .expert_tensor = 2}, {.ranks = 2, .zero = 3, .recompute = Recompute::full},
};

class EightOfRun : public testing::TestWithParam<Mixture> {};
INSTANTIATE_TEST_SUITE_P(Axes, EightOfRun, testing::ValuesIn(axes), [](const auto& m) { return name_of(m.param); });

TEST_P(EightOfRun, TrainsAsOneRankInBf16) {
  const Mixture& m = GetParam();
  constexpr int steps = 2;
  for (const bool dense : {false, true}) {
    if (dense && m.tensor * m.zero == 1) continue;
    const Recipe model = dense ? dense_in_blocks(Compute::bf16, Reproducibility::run, m)
                               : sparse_in_blocks(Compute::bf16, Reproducibility::run, m);
    const RunResult one = train_on(model, 1, steps);
    for (const auto& [name, precision] : precisions_of_eight) {
      const Recipe recipe = m.of(with_precision(model, precision));
      const RunResult ranks = train_on(recipe, m.ranks, steps);
      // The first step of AdamW moves each weight by the sign of its gradient, small or not.
      for (std::size_t s = 0; s < steps; ++s)
        EXPECT_NEAR(ranks.steps[s].loss, one.steps[s].loss, (s == 0 ? 0.003 : 0.02) * one.steps[s].loss)
            << name << ", step " << s;
      EXPECT_NEAR(ranks.steps[0].grad_norm, one.steps[0].grad_norm, 0.05 * one.steps[0].grad_norm) << name;
      EXPECT_EQ(ranks.memory[0], Engine::measure(recipe, m.ranks)) << name;
      // Of the others matrix_test.cpp shows more.
      if (!has_mode_layout(precision)) expect_equal_bits(ranks, train_on(recipe, m.ranks, steps), name);
    }
  }
}

}  // namespace
}  // namespace fourmi
