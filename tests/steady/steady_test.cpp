// After its second step a run takes nothing more from the heap, and its arenas do not grow: the memory of a step is
// known.
#include <gtest/gtest.h>
#include <unistd.h>

#include <barrier>
#include <filesystem>
#include <fstream>
#include <thread>

#include "framework/train/engine.h"
#include "kernels/numerics/random.h"
#include "tests/steady/heap.h"
#include "tests/train/blocks.h"
#include "tests/train/family_recipe.h"
#include "tests/train/small_recipe.h"

namespace fourmi {
namespace {

struct Steady {
  std::int64_t allocations = 0;              ///< in steps 3 to 8, of all ranks
  std::int64_t heap = 0;                     ///< bytes in use then beyond those before the run, of all ranks
  std::vector<Engine::Memory> after_second;  ///< by rank
  std::vector<Engine::Memory> after_all;
};

Steady run(const Recipe& recipe, int num_ranks, int threads_per_rank = 1) {
  const std::int64_t heap_before = heap_in_use();
  auto groups = make_thread_groups("data", num_ranks);
  if (num_ranks == 1) groups[0] = make_self_group("data");
  Steady result;
  result.after_second.resize(static_cast<std::size_t>(num_ranks));
  result.after_all.resize(static_cast<std::size_t>(num_ranks));
  std::barrier barrier(num_ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank)
    threads.emplace_back([&, rank] {
      ThreadPool pool(threads_per_rank);
      const Stream stream(pool);
      const std::vector<LoadedSource> sources = load_sources(recipe.data.train, "data.train");
      const Loader loader(recipe.data, sources, recipe.run.seed, recipe.model.vocab_size);
      const RankGroups ranks = make_groups(recipe, *groups[static_cast<std::size_t>(rank)]);
      Engine engine(recipe, ranks, stream);
      engine.initialise();
      Position position = loader.start();
      StepPlan plan;
      double tokens = 0;
      const PhaseObserver observer = [](Phase, std::int64_t) {};
      for (int s = 1; s <= 8; ++s) {
        if (s == 3) {
          result.after_second[static_cast<std::size_t>(rank)] = engine.arenas().sizes();
          barrier.arrive_and_wait();
          if (rank == 0) arm_heap();
          barrier.arrive_and_wait();
        }
        loader.plan_step(position, plan);
        if (engine.guards_precision() && s % 4 == 1) {
          const ShadowStep shadow{loader, plan, s, tokens, observer};
          engine.compare_precision(shadow);
          engine.gap_of_layer(shadow, 1);
        }
        engine.step(loader, plan, s, tokens, observer);
        tokens += static_cast<double>(plan.num_targets);
        position = plan.next;
      }
      barrier.arrive_and_wait();
      if (rank == 0) {
        disarm_heap();
        result.heap = heap_in_use() - heap_before;
      }
      barrier.arrive_and_wait();
      result.after_all[static_cast<std::size_t>(rank)] = engine.arenas().sizes();
    });
  for (std::thread& t : threads) t.join();
  result.allocations = heap_allocations();
  return result;
}

void expect_steady(const Recipe& recipe, int num_ranks, const std::string& what, int threads_per_rank = 1) {
  const Steady s = run(recipe, num_ranks, threads_per_rank);
  EXPECT_EQ(s.allocations, 0) << what;
  if (s.allocations) print_heap_allocations();
  EXPECT_EQ(s.after_second, s.after_all) << what;
}

std::string what_of(const Recipe& r, int num_ranks) {
  return fmt::format("{} ranks, compute {}, mode {}, recompute {}", num_ranks, static_cast<int>(r.precision.compute),
                     static_cast<int>(r.run.reproducibility), static_cast<int>(r.memory.recompute));
}

TEST(Steady, TheCounterCounts) {
  arm_heap();
  std::vector<int>* v = new std::vector<int>(100);
  std::thread([&] { v->resize(1000); }).join();
  disarm_heap();
  EXPECT_GE(heap_allocations(), 3);
  delete v;
}

TEST(Steady, AStepTakesNothingFromTheHeap) {
  for (Compute compute : {Compute::fp32, Compute::bf16})
    for (Reproducibility mode : {Reproducibility::run, Reproducibility::layout})
      for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full})
        for (int ranks : {1, 2, 4}) {
          if (ranks > 1 && recompute == Recompute::none) continue;
          Recipe recipe = small_recipe(compute, mode);
          recipe.memory.recompute = recompute;
          recipe.memory.offload_optimizer = ranks == 2;
          expect_steady(recipe, ranks, what_of(recipe, ranks));
        }
}

TEST(Steady, NorInEightBits) {
  for (const auto& [_, precision] : precisions_of_eight)
    for (Reproducibility mode : {Reproducibility::run, Reproducibility::layout}) {
      if (mode == Reproducibility::layout && !has_mode_layout(precision)) continue;
      Recipe recipe = with_precision(in_blocks(small_recipe(Compute::bf16, mode)), precision);
      recipe.model.num_hidden_layers = 2;
      if (mode == Reproducibility::run) expect_steady(recipe, 1, what_of(recipe, 1));
      recipe.memory.recompute = Recompute::selective;
      expect_steady(recipe, 2, what_of(recipe, 2));
    }
  expect_steady(in_blocks(family_recipe(dense_family, Compute::fp8_block, Reproducibility::run)), 1, "grouped queries");
}

TEST(Steady, NorWithGroupedQueryAttention) {
  for (const std::string& family : {dense_family, sparse_family})
    for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full})
      for (int ranks : {1, 2}) {
        Recipe recipe = family_recipe(family, Compute::bf16, Reproducibility::run);
        recipe.memory.recompute = recompute;
        expect_steady(recipe, ranks, recipe.model.model_type + ", " + what_of(recipe, ranks));
      }
}

TEST(Steady, NorInAPipeline) {
  for (const char* schedule : {"gpipe", "1f1b", "zb-h1", "dualpipev"}) {
    Recipe recipe = small_recipe(Compute::bf16, Reproducibility::run);
    recipe.model.num_hidden_layers = 5;
    recipe.parallel.pipeline = 2;
    recipe.parallel.pipeline_schedule = schedule;
    recipe.memory.recompute = schedule[0] == 'z' ? Recompute::full : Recompute::none;
    for (int ranks : {2, 4}) expect_steady(recipe, ranks, schedule + (", " + what_of(recipe, ranks)));
    if (recipe.parallel.pipeline_schedule != "dualpipev") continue;
    recipe.parallel.expert = 2;
    expect_steady(recipe, 4, "pairs, " + what_of(recipe, 4));
    recipe.parallel.pipeline_schedule = "interleaved", recipe.parallel.virtual_stages = 2;
    expect_steady(recipe, 4, "pairs of interleaved, " + what_of(recipe, 4));
  }
}

TEST(Steady, NorWithTensorRanks) {
  for (const std::string& family : {std::string(), dense_family})
    for (Reproducibility mode : {Reproducibility::run, Reproducibility::layout})
      for (Recompute recompute : {Recompute::none, Recompute::full}) {
        Recipe recipe = family.empty() ? small_recipe(Compute::bf16, mode) : family_recipe(family, Compute::bf16, mode);
        recipe.model.intermediate_size = 64;
        if (recipe.model.n_routed_experts > 0) recipe.model.moe_intermediate_size = 64;
        recipe.parallel.tensor = 2;
        recipe.memory.recompute = recompute;
        for (int ranks : {2, 4}) expect_steady(recipe, ranks, "tensor 2, " + what_of(recipe, ranks));
        recipe.model.num_hidden_layers = 4;
        recipe.parallel.pipeline = 2;
        if (recompute == Recompute::none) expect_steady(recipe, 4, "tensor 2, pipeline 2, " + what_of(recipe, 4));
      }
}

TEST(Steady, NorWithLayersThatTakeTurns) {
  for (int level : {2, 3})
    for (Reproducibility mode : {Reproducibility::run, Reproducibility::layout}) {
      Recipe recipe = small_recipe(Compute::bf16, mode);
      recipe.parallel.zero = level;
      for (int ranks : {1, 4}) expect_steady(recipe, ranks, fmt::format("zero {}, {}", level, what_of(recipe, ranks)));
    }
}

TEST(Steady, NorWhereRanksShareSequences) {
  for (Reproducibility mode : {Reproducibility::run, Reproducibility::layout}) {
    Recipe recipe = small_recipe(Compute::bf16, mode, 2);
    recipe.parallel.context = 2;
    recipe.memory.recompute = mode == Reproducibility::run ? Recompute::full : Recompute::none;
    for (int ranks : {2, 4}) expect_steady(recipe, ranks, "context 2, " + what_of(recipe, ranks));
    recipe = family_recipe(dense_family, Compute::bf16, mode, 2);
    recipe.parallel.context = 2;
    expect_steady(recipe, 2, recipe.model.model_type + ", context 2, " + what_of(recipe, 2));
    if (mode == Reproducibility::layout) continue;
    recipe.parallel.context_method = ContextMethod::ring;
    recipe.parallel.context = 4;
    expect_steady(recipe, 4, recipe.model.model_type + ", a ring of 4, " + what_of(recipe, 4));
  }
}

TEST(Steady, NorWithExpertsOnOtherRanks) {
  for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full})
    for (Reproducibility mode : {Reproducibility::run, Reproducibility::layout})
      for (bool bound : {false, true}) {
        Recipe recipe = small_recipe(Compute::bf16, mode);
        recipe.parallel.expert = 4;
        recipe.memory.recompute = recompute;
        if (bound) recipe.parallel.dispatch_bound = 1, recipe.parallel.dispatch_node_size = 2;
        expect_steady(recipe, 4, what_of(recipe, 4) + (bound ? ", bounded" : ""), bound ? 2 : 1);
        recipe.model.moe_intermediate_size = 32;
        recipe.parallel.expert = recipe.parallel.expert_tensor = 2;
        if (recompute != Recompute::selective) expect_steady(recipe, 4, what_of(recipe, 4) + ", columns cut");
      }
}

// Which thread of a pool takes which part of an operation is chance, and may be another in every step.
TEST(Steady, NorWithPoolsOfTwoThreads) {
  for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
    Recipe recipe = small_recipe(Compute::bf16, Reproducibility::run, 4);
    recipe.memory.recompute = recompute;
    for (int ranks : {1, 2}) expect_steady(recipe, ranks, what_of(recipe, ranks) + ", 2 threads", 2);
    recipe = small_recipe(Compute::fp32, Reproducibility::layout, 2);
    recipe.memory.recompute = recompute;
    expect_steady(recipe, 1, what_of(recipe, 1) + ", 2 threads", 2);
    recipe = family_recipe(sparse_family, Compute::bf16, Reproducibility::run);
    recipe.memory.recompute = recompute;
    expect_steady(recipe, 1, recipe.model.model_type + ", " + what_of(recipe, 1) + ", 2 threads", 2);
  }
}

/// A folder of documents of 1 to 400 bytes, so that every micro-batch has another number of them.
class Documents {
 public:
  Documents() : path_(std::filesystem::temp_directory_path() / fmt::format("fourmi-steady-{}", getpid())) {
    std::filesystem::create_directories(path_);
    const RandomKey key = random_key(1, "test", "documents");
    for (std::uint64_t i = 0; i < 200; ++i) {
      const std::uint64_t bits = random_bits(key, i);
      std::ofstream(path_ / std::to_string(i))
          << std::string(1 + (bits >> 8) % (bits % 3 ? 40 : 400), static_cast<char>('a' + i % 26));
    }
  }
  ~Documents() { std::filesystem::remove_all(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

TEST(Steady, NorOnDocumentsOfAllLengths) {
  const Documents documents;
  for (bool across : {false, true}) {
    Recipe recipe = small_recipe(Compute::bf16, Reproducibility::run, 2);
    DataSource& source = recipe.data.train[0];
    source.path = documents.path(), source.format = "text";
    recipe.data.cross_document_attention = across;
    recipe.data.sequence_length = 256;
    recipe.model.max_position_embeddings = 256;
    for (int ranks : {1, 2}) expect_steady(recipe, ranks, what_of(recipe, ranks));
    expect_steady(recipe, 1, what_of(recipe, 1) + ", 2 threads", 2);
  }
}

/// What is outside of the arenas: the batch's rows, the group's lists, threads' working memory of operations. None of
/// it may grow with the model's depth, number of parameters or vocabulary.
TEST(Steady, WhatTheHeapHoldsDoesNotGrowWithTheModel) {
  Recipe recipe = small_recipe(Compute::bf16, Reproducibility::run);
  const std::int64_t small = run(recipe, 1).heap;
  recipe.model.num_hidden_layers = 12;
  recipe.model.vocab_size = 4000;
  recipe.model.moe_intermediate_size = 64;
  const std::int64_t large = run(recipe, 1).heap;
  std::int64_t arenas = 0;
  for (const auto& [name, bytes] : Engine::measure(recipe, 1)) arenas += bytes;
  EXPECT_GT(arenas, 20 << 20);
  EXPECT_LT(large, 4 << 20) << "of " << arenas << " in arenas";
  // Names of parameters and boxes are text, by layer.
  EXPECT_LT(large - small, arenas / 20);
}

}  // namespace
}  // namespace fourmi
