// Calls of the tensor axis that can be hidden behind work are hidden: with a group whose every call takes 5 ms longer,
// a step waits for much less than all of them, and its backward for least.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "framework/train/engine.h"
#include "tests/layouts/delayed_group.h"
#include "tests/layouts/wide_layers.h"

namespace fourmi {
namespace {

struct Exposure {
  Delays step, backward;
  double loss = 0;
};

/// One of 2 tensor ranks, whose calls take a delay.
class Rank {
 public:
  Rank(const Recipe& recipe, std::unique_ptr<Group> world)
      : stream_(pool_),
        world_(std::move(world), delays_),
        sources_(load_sources(recipe.data.train, "data.train")),
        loader_(recipe.data, sources_, recipe.run.seed, recipe.model.vocab_size),
        ranks_(make_groups(recipe, world_)),
        engine_(recipe, ranks_, stream_),
        position_(loader_.start()) {
    engine_.initialise();
  }

  Exposure step(std::chrono::milliseconds delay) {
    delays_ = {.delay = delay};
    Delays at_phase = delays_, backward = delays_;
    Phase phase = Phase::forward;
    const auto enter = [&](Phase next, std::int64_t) {
      if (phase == Phase::backward) {
        backward.calls += delays_.calls - at_phase.calls;
        backward.exposed += delays_.exposed - at_phase.exposed;
      }
      phase = next, at_phase = delays_;
    };
    const StepPlan plan = loader_.plan_step(position_);
    const StepResult r = engine_.step(loader_, plan, ++step_, 0, enter);
    position_ = plan.next;
    return {delays_, backward, r.loss};
  }

 private:
  ThreadPool pool_{1};
  Stream stream_;
  Delays delays_;
  DelayedGroup world_;
  std::vector<LoadedSource> sources_;
  Loader loader_;
  RankGroups ranks_;
  Engine engine_;
  Position position_;
  std::int64_t step_ = 0;
};

/// work(rank, whether it is rank 0) on 2 threads.
void on_two_ranks(const Recipe& recipe, const std::function<void(Rank&, bool)>& work) {
  auto groups = make_thread_groups("world", 2);
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < 2; ++r)
    threads.emplace_back([&, r] {
      Rank rank(recipe, std::move(groups[r]));
      work(rank, r == 0);
    });
  for (std::thread& t : threads) t.join();
}

/// Of rank 0 in the second of two steps.
Exposure run(const Recipe& recipe, std::chrono::milliseconds delay) {
  Exposure result;
  on_two_ranks(recipe, [&](Rank& rank, bool first) {
    rank.step(delay);
    const Exposure second = rank.step(delay);
    if (first) result = second;
  });
  return result;
}

class Overlap : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(LatentOrNot, Overlap, testing::Bool());
class LongOverlap : public Overlap {};
INSTANTIATE_TEST_SUITE_P(Long, LongOverlap, testing::Bool());

TEST_P(Overlap, WhatCanBeHiddenIsHidden) {
  const Recipe recipe = wide_recipe(GetParam());
  const Exposure delayed = run(recipe, std::chrono::milliseconds(5));
  const Exposure plain = run(recipe, std::chrono::milliseconds(0));
  EXPECT_EQ(delayed.loss, plain.loss);
  EXPECT_GT(delayed.backward.calls, 12);
  EXPECT_LT(delayed.step.share_exposed(), 0.5);
  EXPECT_LT(delayed.backward.share_exposed(), 0.4);
}

/// Of steps with and without the delay in turn: what the delay adds to the step, of what it adds to all its calls.
TEST_P(LongOverlap, AStepGrowsByLessThanItsCalls) {
  constexpr std::chrono::milliseconds delay(5);
  std::vector<double> plain, delayed;
  std::int64_t calls = 0;
  on_two_ranks(wide_recipe(GetParam()), [&](Rank& rank, bool first) {
    for (int i = 0; i < 42; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      const Exposure e = rank.step(i % 2 ? delay : std::chrono::milliseconds(0));
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
      if (first && i >= 2) (i % 2 ? delayed : plain).push_back(seconds.count());
      if (first) calls = e.step.calls;
    }
  });
  const auto median = [](std::vector<double>& v) {
    std::nth_element(v.begin(), v.begin() + std::ssize(v) / 2, v.end());
    return v[v.size() / 2];
  };
  const double before = median(plain), after = median(delayed);
  const double growth = (after - before) / (static_cast<double>(calls) * std::chrono::duration<double>(delay).count());
  fmt::print("step {:.4f} s, with the delay {:.4f} s, {} calls: grown by {:.1f}% of them\n", before, after, calls,
             growth * 100);
  EXPECT_LT(growth, 0.4);
}

}  // namespace
}  // namespace fourmi
