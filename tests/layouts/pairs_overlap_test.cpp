// With ways to the experts that take as long as what is computed, pairs hide most of them: on a clock that counts
// what ranks compute and how long bytes travel, so that the figures do not depend on who else uses the machine.
#include <gtest/gtest.h>

#include "framework/train/engine.h"
#include "parallel/order/order_groups.h"
#include "tests/layouts/pairs_recipe.h"
#include "tests/layouts/virtual_group.h"

namespace fourmi {
namespace {

struct Measured {
  double step = 0;                                  ///< seconds of the clock, of the rank that takes longest
  double computed = 0, travelled = 0, exposed = 0;  ///< of all ranks
  std::int64_t bytes = 0;
  double loss = 0;
};

/// The mean of some steps behind a first one.
Measured run(const Recipe& recipe, int ranks, int steps, double seconds_per_byte) {
  auto groups = make_thread_groups("world", ranks);
  Measured all;
  std::mutex mutex;
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < static_cast<std::size_t>(ranks); ++rank)
    threads.emplace_back([&, rank] {
      ThreadPool pool(1);
      const Stream stream(pool);
      VirtualClock clock;
      clock.slow = name_of(GroupKind::expert);
      VirtualGroup world(std::move(groups[rank]), clock);
      const Loader loader(recipe.data, load_sources(recipe.data.train, "data.train"), recipe.run.seed,
                          recipe.model.vocab_size);
      const RankGroups mine = make_groups(recipe, world);
      Engine engine(recipe, mine, stream);
      engine.initialise();
      Position position = loader.start();
      VirtualClock begin;
      double loss = 0;
      for (int s = 0; s <= steps; ++s) {
        if (s == 1) {
          clock.seconds_per_byte = seconds_per_byte;
          world.barrier();
          begin = clock;
        }
        const StepPlan plan = loader.plan_step(position);
        loss = engine.step(loader, plan, s + 1, 0, [](Phase, std::int64_t) {}).loss;
        position = plan.next;
      }
      world.barrier();
      std::lock_guard lock(mutex);
      all.step = std::max(all.step, (clock.now - begin.now) / steps);
      all.computed += (clock.computed - begin.computed) / steps;
      all.travelled += (clock.travelled - begin.travelled) / steps;
      all.exposed += (clock.exposed - begin.exposed) / steps;
      all.bytes += (clock.bytes - begin.bytes) / steps;
      all.loss = loss;
    });
  for (std::thread& t : threads) t.join();
  return all;
}

struct Compared {
  Measured in_turn, together;
};

/// Where all that travels to experts takes as long as all that is computed.
Compared compare(std::int64_t width, int steps) {
  const Recipe in_turn = pairs_recipe("dualpipev", OverlapPairs::never, width),
               together = pairs_recipe("dualpipev", OverlapPairs::always, width);
  const Measured free = run(in_turn, 4, 1, 0);
  const double seconds_per_byte = free.computed / static_cast<double>(free.bytes);
  const Compared c{run(in_turn, 4, steps, seconds_per_byte), run(together, 4, steps, seconds_per_byte)};
  for (const auto& [name, m] : {std::pair("one after the other", c.in_turn), std::pair("phase by phase", c.together)})
    fmt::print("{}: step {:.3f} s, computed {:.3f} s, travelled {:.3f} s, exposed {:.1f}%\n", name, m.step,
               m.computed / 4, m.travelled / 4, 100 * m.exposed / m.travelled);
  EXPECT_EQ(c.in_turn.loss, c.together.loss);
  EXPECT_EQ(c.in_turn.bytes, c.together.bytes);
  return c;
}

TEST(PairsOverlap, WhatTravelsIsHidden) {
  const Compared c = compare(64, 1);
  EXPECT_LT(c.together.exposed, 0.6 * c.in_turn.exposed);
}

class LongPairsOverlap : public testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(Long, LongPairsOverlap, testing::Values(128));

TEST_P(LongPairsOverlap, AStepIsShorter) {
  const Compared c = compare(GetParam(), 5);
  EXPECT_LT(c.together.exposed, 0.25 * c.together.travelled);
  EXPECT_LT(c.together.step, 0.85 * c.in_turn.step);
}

}  // namespace
}  // namespace fourmi
