// The invariance matrix: mixtures of axes, schedules, dispatchers, ZeRO levels and recomputation on eight ranks, and
// every axis alone, against one rank. In fp64 every gradient to 1e-9 of its norm; in mode layout every bit of losses,
// gradient norms, weights, masters and moments.
#include <gtest/gtest.h>

#include <array>
#include <set>

#include "tests/layouts/mixtures.h"

namespace fourmi {
namespace {

/// Of all that a mixture is made of, those that are larger than one.
std::array<bool, 7> axes_of(const Mixture& m) {
  return {m.data() > 1, m.tensor > 1,        m.context > 1,      m.pipeline > 1,
          m.expert > 1, m.expert_tensor > 1, m.expert_data() > 1};
}

class Matrix : public testing::TestWithParam<Mixture> {
 protected:
  static void check(Recipe (*recipe)(Compute, Reproducibility), const Mixture& m, int steps) {
    const Recipe exact = recipe(Compute::fp64, Reproducibility::run);
    expect_agreement(train_on(exact, 1, 1), train_on(m.of(exact), m.ranks, 1), "fp64");
    if (!m.ring) check_bits(recipe, m, steps);  // mode layout gathers
  }
  static void check_bits(Recipe (*recipe)(Compute, Reproducibility), const Mixture& m, int steps) {
    for (const Compute compute : {Compute::fp32, Compute::bf16}) {
      const Recipe bits = recipe(compute, Reproducibility::layout);
      expect_equal_bits(train_on(bits, 1, steps), train_on(m.of(bits), m.ranks, steps),
                        compute == Compute::fp32 ? "fp32" : "bf16");
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Short, Matrix, testing::ValuesIn(mixtures), [](const auto& m) { return name_of(m.param); });

TEST_P(Matrix, SparseModelIsThatOfOneRank) {
  check(sparse, GetParam(), 3);
}

TEST_P(Matrix, DenseModelIsThatOfOneRank) {
  check(dense, without_experts(GetParam()), 3);
}

/// Bits, over more steps.
class LongMatrix : public Matrix {};
std::vector<Mixture> in_mode_layout() {
  std::vector<Mixture> some;
  std::copy_if(std::begin(mixtures), std::end(mixtures), std::back_inserter(some),
               [](const Mixture& m) { return !m.ring; });
  return some;
}
INSTANTIATE_TEST_SUITE_P(Long, LongMatrix, testing::ValuesIn(in_mode_layout()),
                         [](const auto& m) { return name_of(m.param); });

TEST_P(LongMatrix, TwentyStepsAreThoseOfOneRank) {
  check_bits(sparse, GetParam(), 20);
  check_bits(dense, without_experts(GetParam()), 20);
}

/// With scales that elements share: bits of models whose cuts fall between blocks.
class Eight : public testing::TestWithParam<Mixture> {};
std::vector<Mixture> some_of_eight() {
  std::vector<Mixture> some;
  for (const Mixture& m : in_mode_layout()) {
    const auto axes = axes_of(m);
    // Between them every axis, two dispatchers, all levels, both recomputations; the campaign has all.
    if (std::count(axes.begin(), axes.end(), true) >= 5 && m.ranks == 8) some.push_back(m);
  }
  return some;
}
INSTANTIATE_TEST_SUITE_P(Short, Eight, testing::ValuesIn(some_of_eight()),
                         [](const auto& m) { return name_of(m.param); });
class LongEight : public Eight {};
INSTANTIATE_TEST_SUITE_P(Long, LongEight, testing::ValuesIn(in_mode_layout()),
                         [](const auto& m) { return name_of(m.param); });

void check_eight(const Mixture& m, int steps) {
  const Mixture d = without_experts(m);
  for (const auto& [name, precision] : precisions_of_eight)
    for (const auto& [model, mixture] : {std::pair(sparse_in_blocks(Compute::bf16, Reproducibility::layout, m), m),
                                         std::pair(dense_in_blocks(Compute::bf16, Reproducibility::layout, d), d)}) {
      if (!has_mode_layout(precision)) continue;
      Recipe recipe = with_precision(model, precision);
      if (mixture.expert > 1) recipe.precision.dispatch = DispatchFormat::fp8;
      expect_equal_bits(train_on(recipe, 1, steps), train_on(mixture.of(recipe), mixture.ranks, steps), name);
    }
}
TEST_P(Eight, BitsAreThoseOfOneRank) {
  check_eight(GetParam(), 2);
}
TEST_P(LongEight, BitsAreThoseOfOneRank) {
  check_eight(GetParam(), 3);
}

TEST(MatrixItself, HoldsEveryPairOfAxesAndEveryChoice) {
  int of_eight = 0;
  std::set<std::pair<std::size_t, std::size_t>> pairs;
  std::set<std::string> schedules;
  std::set<std::tuple<int, int>> dispatchers;
  std::set<int> levels;
  std::set<Recompute> recomputes;
  std::set<std::string> names;
  for (const Mixture& m : mixtures) {
    EXPECT_TRUE(names.insert(name_of(m)).second) << name_of(m) << " twice";
    const auto axes = axes_of(m);
    for (std::size_t a = 0; a < axes.size(); ++a)
      for (std::size_t b = a + 1; b < axes.size(); ++b)
        if (m.ranks == 8 && !m.ring && axes[a] && axes[b]) pairs.insert({a, b});
    if (m.ranks != 8 || m.ring) continue;
    ++of_eight;
    if (m.pipeline > 1) schedules.insert(m.schedule);
    dispatchers.insert({m.expert > 1, m.node_size > 0});
    levels.insert(m.zero);
    recomputes.insert(m.recompute);
  }
  EXPECT_GE(of_eight, 24);
  EXPECT_EQ(pairs.size(), 7u * 6 / 2);
  EXPECT_EQ(schedules.size(), std::size(schedules_that_train));
  EXPECT_EQ(dispatchers.size(), 3u) << "local, all-to-all, hierarchical";
  EXPECT_EQ(levels.size(), 3u);
  EXPECT_EQ(recomputes.size(), 3u);
  const std::int64_t parameters = [] {
    std::int64_t n = 0;
    const ParameterTable table(sparse(Compute::fp32, Reproducibility::run).model);
    for (const Parameter& p : table.all()) n += p.shape.num_elements();
    return n;
  }();
  EXPECT_NEAR(static_cast<double>(parameters), 250e3, 100e3);
}

}  // namespace
}  // namespace fourmi
