// What ranks say of a step that is not finite.
#pragma once

#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "framework/train/engine.h"

namespace fourmi {

/// What the ranks are told after `spoil` changed one of their engines; `late` is called before the optimizer's work.
using Spoil = std::function<void(Engine&, int rank)>;
inline std::set<std::string> told(const Recipe& recipe, int num_ranks, const Spoil& spoil,
                                  const Spoil& late = nullptr) {
  auto groups = make_thread_groups("world", num_ranks);
  std::set<std::string> words;
  std::mutex mutex;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank)
    threads.emplace_back([&, rank] {
      ThreadPool pool(1);
      const Stream stream(pool);
      const Loader loader(recipe.data, load_sources(recipe.data.train, "data.train"), recipe.run.seed,
                          recipe.model.vocab_size);
      const RankGroups ranks = make_groups(recipe, *groups[static_cast<std::size_t>(rank)]);
      Engine engine(recipe, ranks, stream);
      engine.initialise();
      spoil(engine, rank);
      std::string cause = "nothing";
      try {
        engine.step(loader, loader.plan_step(loader.start()), 1, 0, [&](Phase phase, std::int64_t) {
          if (late && phase == Phase::optimizer) late(engine, rank);
        });
      } catch (const Error& e) {
        cause = e.cause();
      }
      std::lock_guard lock(mutex);
      words.insert(cause);
    });
  for (std::thread& t : threads) t.join();
  return words;
}

}  // namespace fourmi
