// The invariance matrix on a card: ranks are threads that share it, and move its memory between them.
#include <gtest/gtest.h>

#include "tests/device/card.h"
#include "tests/layouts/device_bits.h"

namespace fourmi {
namespace {

using test::card;

class CardMatrix : public testing::TestWithParam<Mixture> {
 protected:
  /// One rank on the CPU, and the layout on the card: in fp64, so that routers choose alike.
  static void check(Recipe (*recipe)(Compute, Reproducibility), const Mixture& m) {
    const Recipe exact = recipe(Compute::fp64, Reproducibility::run);
    expect_agreement(train_on(exact, 1, 1), train_on(m.of(exact), m.ranks, 1, 1, nullptr, nullptr, &card()), "fp64");
  }
};

/// Each axis alone, and what dispatches by nodes.
std::vector<Mixture> some() {
  return {{.ranks = 2, .tensor = 2},
          {.ranks = 2, .context = 2},
          {.ranks = 2, .pipeline = 2},
          {.ranks = 2, .expert = 2},
          {.ranks = 2, .expert_tensor = 2},
          {.ranks = 2, .zero = 3},
          {.ranks = 2, .context = 2, .ring = true},
          {.ranks = 4, .expert = 4, .node_size = 2, .bound = 1.25, .zero = 2, .recompute = Recompute::full}};
}
INSTANTIATE_TEST_SUITE_P(Short, CardMatrix, testing::ValuesIn(some()), [](const auto& m) { return name_of(m.param); });
INSTANTIATE_TEST_SUITE_P(Long, CardMatrix, testing::ValuesIn(mixtures), [](const auto& m) { return name_of(m.param); });

TEST_P(CardMatrix, SparseModelIsThatOfOneRank) {
  check(sparse, GetParam());
}
TEST_P(CardMatrix, DenseModelIsThatOfOneRank) {
  check(dense, without_experts(GetParam()));
}

class CardDispatcher : public testing::TestWithParam<Mixture> {};
INSTANTIATE_TEST_SUITE_P(Short, CardDispatcher,
                         testing::Values(Mixture{.ranks = 2, .expert = 2, .device = true},
                                         Mixture{.ranks = 4, .expert = 4, .device = true},
                                         Mixture{.ranks = 2, .expert = 2, .bound = 1.25, .device = true}),
                         [](const auto& m) { return name_of(m.param); });
INSTANTIATE_TEST_SUITE_P(
    Long, CardDispatcher,
    testing::Values(
        Mixture{.ranks = 4, .expert = 2, .zero = 3, .recompute = Recompute::full, .device = true},
        Mixture{.ranks = 4, .expert = 2, .expert_tensor = 2, .device = true},
        Mixture{.ranks = 4, .pipeline = 2, .expert = 2, .schedule = "dualpipev", .device = true},
        Mixture{
            .ranks = 4, .pipeline = 2, .expert = 2, .bound = 1.25, .recompute = Recompute::selective, .device = true}),
    [](const auto& m) { return name_of(m.param); });

// Kernels move the rows of this one (parallel.dispatcher: device), groups those of the other.
TEST_P(CardDispatcher, BitsAreThoseOfTheAllToAll) {
  expect_bits_of_the_all_to_all(GetParam(), sparse(Compute::bf16, Reproducibility::run), 1, name_of(GetParam()),
                                &card());
}
TEST_P(CardDispatcher, EightBitsAreThoseOfTheAllToAll) {
  const Mixture m = GetParam();
  Recipe r = with_precision(sparse_in_blocks(Compute::bf16, Reproducibility::run, m), precisions_of_eight[0].second);
  r.precision.dispatch = DispatchFormat::fp8;
  expect_bits_of_the_all_to_all(m, r, 1, name_of(m), &card());
}

}  // namespace
}  // namespace fourmi
