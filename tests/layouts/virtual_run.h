// Steps of thread ranks on a clock that counts what they compute and how long bytes of some groups travel
// (virtual_group.h).
#pragma once

#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "framework/train/engine.h"
#include "tests/layouts/layouts.h"
#include "tests/layouts/virtual_group.h"

namespace fourmi {

struct Measured {
  double step = 0;                                  ///< seconds of the clock, of the rank that takes longest
  double computed = 0, travelled = 0, exposed = 0;  ///< of all ranks
  double optimizer = 0;                             ///< of `computed`: behind the last backward
  std::int64_t bytes = 0;
  double loss = 0;
};

/// A thread rank on a clock of its own, about to take its first step.
struct VirtualRank {
  int rank = 0;
  VirtualClock& clock;
  VirtualGroup& world;
  const Loader& loader;
  Engine& engine;
  Position position;  ///< of the next step's samples

  /// The next one, by number from 1.
  StepResult step(std::int64_t number, const PhaseObserver& observer) {
    const StepPlan plan = loader.plan_step(position);
    const StepResult result = engine.step(loader, plan, number, 0, observer);
    position = plan.next;
    return result;
  }
};

/// body(VirtualRank&) on each of `ranks` threads.
template <class Body>
void on_virtual_ranks(const Recipe& recipe, int ranks, const Body& body) {
  auto groups = make_thread_groups("world", ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      ThreadPool pool(1);
      const Stream stream(pool);
      VirtualClock clock;
      VirtualGroup world(std::move(groups[static_cast<std::size_t>(rank)]), clock);
      const Loader loader(recipe.data, load_sources(recipe.data.train, "data.train"), recipe.run.seed,
                          recipe.model.vocab_size);
      const RankGroups mine = make_groups(recipe, world);
      Engine engine(recipe, mine, stream);
      engine.initialise();
      VirtualRank here{rank, clock, world, loader, engine, loader.start()};
      body(here);
    });
  for (std::thread& t : threads) t.join();
}

/// The mean of some steps behind a first one. `slow`: the groups whose bytes take time; `all_to_alls`: those of theirs,
/// too.
inline Measured run(const Recipe& recipe, int ranks, int steps, double seconds_per_byte,
                    const std::vector<std::string>& slow, bool all_to_alls = true) {
  Measured all;
  std::mutex mutex;
  on_virtual_ranks(recipe, ranks, [&](VirtualRank& here) {
    VirtualClock& clock = here.clock;
    clock.slow = slow, clock.all_to_alls = all_to_alls;
    VirtualClock begin;
    double loss = 0, in_optimizer = 0, optimizer_began = 0;
    const PhaseObserver observer = [&](Phase phase, std::int64_t) {
      clock.pause(), clock.resume();
      if (phase == Phase::optimizer) optimizer_began = clock.computed;
    };
    for (int s = 0; s <= steps; ++s) {
      if (s == 1) {
        clock.seconds_per_byte = seconds_per_byte;
        here.world.barrier();
        begin = clock;
      }
      loss = here.step(s + 1, observer).loss;
      clock.pause(), clock.resume();
      if (s > 0) in_optimizer += clock.computed - optimizer_began;
    }
    here.world.barrier();
    std::lock_guard lock(mutex);
    all.step = std::max(all.step, (clock.now - begin.now) / steps);
    all.computed += (clock.computed - begin.computed) / steps;
    all.travelled += (clock.travelled - begin.travelled) / steps;
    all.exposed += (clock.exposed - begin.exposed) / steps;
    all.bytes += (clock.bytes - begin.bytes) / steps;
    all.optimizer += in_optimizer / steps;
    all.loss = loss;
  });
  return all;
}

}  // namespace fourmi
