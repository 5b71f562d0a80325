// What is not finite on one stage is told by all ranks alike, by the whole model's names.
#include <gtest/gtest.h>

#include <limits>
#include <mutex>
#include <set>
#include <thread>

#include "framework/train/engine.h"
#include "tests/pipeline/pipeline_recipe.h"

namespace fourmi {
namespace {

/// What the ranks of a pipeline are told after `spoil` changed one of their engines.
std::set<std::string> told(const Recipe& recipe, int num_ranks, const std::function<void(Engine&, int rank)>& spoil) {
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
        engine.step(loader, loader.plan_step(loader.start()), 1, 0, [](Phase, std::int64_t) {});
      } catch (const Error& e) {
        cause = e.cause();
      }
      std::lock_guard lock(mutex);
      words.insert(cause);
    });
  for (std::thread& t : threads) t.join();
  return words;
}

TEST(NonFiniteInAPipeline, ABadWeightOfOneStage) {
  const Recipe recipe = with_pipeline(deep_recipe(Compute::fp32, Reproducibility::run), "1f1b", 2);
  const std::string name = "model.layers.7.self_attn.o_proj.weight";
  const auto words = told(recipe, 2, [&](Engine& engine, int rank) {
    if (rank == 1)
      engine.store().weight(engine.store().slot(name)).as<float>()[33] = std::numeric_limits<float>::quiet_NaN();
  });
  ASSERT_EQ(words.size(), 1u);
  EXPECT_NE(words.begin()->find("the weight of " + name + " is NaN at [1, 1] on rank 1"), std::string::npos)
      << *words.begin();
}

TEST(NonFiniteInAPipeline, ABadActivationIsThatOfTheFirstLayerThatHasIt) {
  for (std::string_view schedule : {"1f1b", "zb-v"}) {
    const Recipe recipe = with_pipeline(deep_recipe(Compute::fp32, Reproducibility::layout), schedule, 2);
    const auto words = told(recipe, 2, [](Engine& engine, int) {
      engine.set_activation_probe([](std::int64_t layer, const Tensor& output) {
        if (layer == 2) output.as<float>()[5] = std::numeric_limits<float>::infinity();
      });
    });
    ASSERT_EQ(words.size(), 1u);
    EXPECT_NE(words.begin()->find("the output of model.layers.2 is inf at element 5 on rank"), std::string::npos)
        << *words.begin();
    EXPECT_NE(words.begin()->find("micro-batch 0"), std::string::npos) << *words.begin();
  }
}

}  // namespace
}  // namespace fourmi
