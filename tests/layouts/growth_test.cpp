// What calls that take 5 ms each add to a step of 2 tensor ranks, on a clock that other programs do not change.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/layouts/virtual_run.h"
#include "tests/layouts/wide_layers.h"

namespace fourmi {
namespace {

constexpr double seconds_per_call = 0.005;

struct Growth {
  double plain = 0, delayed = 0;  ///< medians of a step, seconds of rank 0
  double waited = 0;              ///< the same of what a delayed step waits for
  std::int64_t calls = 0;         ///< of a step
  double of_calls(double seconds) const { return seconds / (static_cast<double>(calls) * seconds_per_call); }
};

double median(std::vector<double>& v) {
  std::nth_element(v.begin(), v.begin() + std::ssize(v) / 2, v.end());
  return v[v.size() / 2];
}

/// Steps with and without the delay in turn, behind two.
Growth grow(const Recipe& recipe, int steps) {
  Growth growth;
  on_virtual_ranks(recipe, 2, [&](VirtualRank& here) {
    VirtualClock& clock = here.clock;
    std::vector<double> plain, delayed, waited;
    for (int s = 0; s < 2 + 2 * steps; ++s) {
      clock.seconds_per_call = 0;
      here.world.barrier();
      clock.seconds_per_call = s % 2 ? seconds_per_call : 0;
      const VirtualClock begin = clock;
      here.step(s + 1, [](Phase, std::int64_t) {});
      clock.pause();
      if (s >= 2) (s % 2 ? delayed : plain).push_back(clock.now - begin.now);
      if (s >= 2 && s % 2) waited.push_back(clock.exposed - begin.exposed);
      if (here.rank == 0) growth.calls = clock.calls - begin.calls;
      clock.resume();
    }
    if (here.rank == 0) growth.plain = median(plain), growth.delayed = median(delayed), growth.waited = median(waited);
  });
  return growth;
}

class Growths : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Long, Growths, testing::Bool());

TEST_P(Growths, AStepGrowsByLessThanItsCalls) {
  const Growth g = grow(wide_recipe(GetParam()), 10);
  // The step itself varies by as much as some calls take; what is waited for does not.
  fmt::print("step {:.4f} s, with the delay {:.4f} s, {} calls: grown by {:.1f}% of them, {:.1f}% waited for\n",
             g.plain, g.delayed, g.calls, 100 * g.of_calls(g.delayed - g.plain), 100 * g.of_calls(g.waited));
  EXPECT_GT(g.calls, 30);
  EXPECT_LT(g.of_calls(g.waited), 0.37);
}

}  // namespace
}  // namespace fourmi
