// With ways to the experts that take as long as what is computed, pairs hide most of them: on a clock that counts
// what ranks compute and how long bytes travel, so that the figures do not depend on who else uses the machine.
#include <gtest/gtest.h>

#include "parallel/order/order_groups.h"
#include "tests/layouts/pairs_recipe.h"
#include "tests/layouts/virtual_run.h"

namespace fourmi {
namespace {

const std::vector<std::string> to_experts{name_of(GroupKind::expert)};

struct Compared {
  Measured in_turn, together;
};

/// Where all that travels to experts takes as long as all that is computed.
Compared compare(const std::string& schedule, std::int64_t width, int steps) {
  const Recipe in_turn = pairs_recipe(schedule, OverlapPairs::never, width),
               together = pairs_recipe(schedule, OverlapPairs::always, width);
  const Measured free = run(in_turn, 4, 1, 0, to_experts);
  const double seconds_per_byte = free.computed / static_cast<double>(free.bytes);
  const Compared c{run(in_turn, 4, steps, seconds_per_byte, to_experts),
                   run(together, 4, steps, seconds_per_byte, to_experts)};
  for (const auto& [name, m] : {std::pair("one after the other", c.in_turn), std::pair("phase by phase", c.together)})
    fmt::print("{}: step {:.3f} s, computed {:.3f} s, travelled {:.3f} s, exposed {:.1f}%\n", name, m.step,
               m.computed / 4, m.travelled / 4, 100 * m.exposed / m.travelled);
  EXPECT_EQ(c.in_turn.loss, c.together.loss);
  EXPECT_EQ(c.in_turn.bytes, c.together.bytes);
  return c;
}

class PairsOverlap : public testing::TestWithParam<const char*> {};
class LongPairsOverlap : public PairsOverlap {};
constexpr const char* schedules[] = {"dualpipev", "interleaved"};
INSTANTIATE_TEST_SUITE_P(Short, PairsOverlap, testing::ValuesIn(schedules), [](const auto& s) { return s.param; });
INSTANTIATE_TEST_SUITE_P(Long, LongPairsOverlap, testing::ValuesIn(schedules), [](const auto& s) { return s.param; });

TEST_P(PairsOverlap, WhatTravelsIsHidden) {
  const Compared c = compare(GetParam(), 64, 1);
  EXPECT_LT(c.together.exposed, 0.6 * c.in_turn.exposed);
}

TEST_P(LongPairsOverlap, AStepIsShorter) {
  const Compared c = compare(GetParam(), 128, 5);
  EXPECT_LT(c.together.exposed, 0.25 * c.together.travelled);
  EXPECT_LT(c.together.step, 0.85 * c.in_turn.step);
}

/// What is waited for of messages between stages that take a tenth of all that is computed.
class LongMessages : public PairsOverlap {};
INSTANTIATE_TEST_SUITE_P(Long, LongMessages, testing::Values("1f1b", "dualpipev", "interleaved"),
                         [](const auto& s) { return s.param; });

TEST_P(LongMessages, TravelBesideWhatIsComputed) {
  const bool has_pairs = GetParam() != std::string("1f1b");
  const std::vector<std::string> slow{name_of(GroupKind::pipeline)};
  for (const OverlapPairs pairs : {OverlapPairs::never, OverlapPairs::always}) {
    if (pairs == OverlapPairs::always && !has_pairs) continue;
    const Recipe recipe = pairs_recipe(GetParam(), pairs, 128);
    const Measured free = run(recipe, 4, 1, 0, slow);
    const double rate = 0.1 * free.computed / static_cast<double>(free.bytes);
    const Measured m = run(recipe, 4, 5, rate, slow);
    fmt::print("{}, {}: step {:.3f} s, computed {:.3f} s, messages {:.3f} s, waited for {:.1f}%\n", GetParam(),
               pairs == OverlapPairs::never ? "one after the other" : "phase by phase", m.step, m.computed / 4,
               m.travelled / 4, 100 * m.exposed / m.travelled);
    EXPECT_LT(m.exposed, (has_pairs ? 0.6 : 0.85) * m.travelled);
  }
}

}  // namespace
}  // namespace fourmi
