// Calls of the tensor axis that can be hidden behind work are hidden: with a group whose every call takes 5 ms longer,
// a step waits for much less than all of them, and its backward for least.
#include <gtest/gtest.h>

#include "framework/train/engine.h"
#include "tests/layouts/delayed_group.h"
#include "tests/train/family_recipe.h"

namespace fourmi {
namespace {

struct Exposure {
  Delays step, backward;
  double loss = 0;
};

/// Of rank 0 in the second of two steps on 2 tensor ranks.
Exposure run(const Recipe& recipe, std::chrono::milliseconds delay) {
  auto groups = make_thread_groups("world", 2);
  Exposure result;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank)
    threads.emplace_back([&, rank] {
      ThreadPool pool(1);
      const Stream stream(pool);
      Delays delays{.delay = delay};
      DelayedGroup world(std::move(groups[static_cast<std::size_t>(rank)]), delays);
      const std::vector<LoadedSource> sources = load_sources(recipe.data.train, "data.train");
      const Loader loader(recipe.data, sources, recipe.run.seed, recipe.model.vocab_size);
      const RankGroups ranks = make_groups(recipe, world);
      Engine engine(recipe, ranks, stream);
      engine.initialise();
      Position position = loader.start();
      for (int s = 1; s <= 2; ++s) {
        const StepPlan plan = loader.plan_step(position);
        const Delays before = delays;
        Delays at_phase = delays, backward{.delay = delay};
        Phase phase = Phase::forward;
        const auto enter = [&](Phase next, std::int64_t) {
          if (phase == Phase::backward) {
            backward.calls += delays.calls - at_phase.calls;
            backward.exposed += delays.exposed - at_phase.exposed;
          }
          phase = next, at_phase = delays;
        };
        const StepResult r = engine.step(loader, plan, s, 0, enter);
        if (rank == 0)
          result = {{delay, delays.calls - before.calls, delays.exposed - before.exposed}, backward, r.loss};
        position = plan.next;
      }
    });
  for (std::thread& t : threads) t.join();
  return result;
}

/// Layers whose products take longer than a call.
Recipe wide(Recipe r) {
  r.model.hidden_size = 512;
  r.model.num_attention_heads = r.model.num_key_value_heads = 8;
  r.model.intermediate_size = 1024;
  r.model.num_nextn_predict_layers = 0;
  r.model.num_hidden_layers = 3;
  r.data.sequence_length = r.model.max_position_embeddings = 1024;
  r.data.global_batch_size = 1;
  r.parallel.tensor = 2;
  return r;
}

Recipe latent() {
  Recipe r = wide(small_recipe(Compute::fp32, Reproducibility::run));
  r.model.q_lora_rank = 256, r.model.kv_lora_rank = 256;
  r.model.qk_nope_head_dim = r.model.v_head_dim = 128, r.model.qk_rope_head_dim = 32;
  r.model.moe_intermediate_size = 512, r.model.n_routed_experts = 8;
  return r;
}

Recipe grouped() {
  Recipe r = wide(family_recipe(dense_family, Compute::fp32, Reproducibility::run));
  r.model.head_dim = 128;
  r.model.layer_types.clear();
  return r;
}

class Overlap : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(LatentOrNot, Overlap, testing::Bool());

TEST_P(Overlap, WhatCanBeHiddenIsHidden) {
  const Recipe recipe = GetParam() ? latent() : grouped();
  const Exposure delayed = run(recipe, std::chrono::milliseconds(5));
  const Exposure plain = run(recipe, std::chrono::milliseconds(0));
  EXPECT_EQ(delayed.loss, plain.loss);
  EXPECT_GT(delayed.backward.calls, 12);
  EXPECT_LT(delayed.step.share_exposed(), 0.7);
  EXPECT_LT(delayed.backward.share_exposed(), 0.4);
}

}  // namespace
}  // namespace fourmi
