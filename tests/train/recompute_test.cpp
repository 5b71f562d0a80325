// Recompute trades time for memory and nothing else: the bits are those of a run that keeps everything.
#include <gtest/gtest.h>

#include "tests/train/runs.h"

namespace fourmi {
namespace {

struct Family {
  const char* name;
  void (*change)(Recipe&);
};

/// Each has layers of its own kind before and behind others, so that every layer's shared memory is overwritten.
const Family families[] = {
    {"experts, MTP", [](Recipe&) {}},
    {"experts", [](Recipe& r) { r.model.num_nextn_predict_layers = 0, r.model.num_hidden_layers = 4; }},
    {"deepseek_v2",
     [](Recipe& r) {
       ModelSection& m = r.model;
       m.model_type = "deepseek_v2", m.q_lora_rank = 0, m.num_nextn_predict_layers = 0, m.num_hidden_layers = 4;
       m.scoring_func = "softmax", m.topk_method = "greedy", m.norm_topk_prob = false, m.n_group = 1, m.topk_group = 1;
       r.loss.router_bias_rate = Stepped{{{0, 0.0}}};
     }},
    {"dense",
     [](Recipe& r) {
       r.model.first_k_dense_replace = 4, r.model.num_hidden_layers = 4, r.model.num_nextn_predict_layers = 0;
     }},
};

const char* name_of(Recompute mode) {
  return mode == Recompute::none ? "none" : mode == Recompute::selective ? "selective" : "full";
}

void expect_same_run(const RunResult& kept, const RunResult& again, const std::string& what) {
  expect_equal_bits(kept, again, what);
  ASSERT_EQ(kept.gradients.size(), again.gradients.size());
  for (const auto& [name, values] : kept.gradients)
    EXPECT_EQ(std::memcmp(values.data(), again.gradients.at(name).data(), values.size() * sizeof(double)), 0)
        << what << ": gradient of " << name;
  EXPECT_EQ(kept.expert_counts, again.expert_counts) << what;
}

TEST(Recompute, GivesTheBitsOfARunThatKeepsAll) {
  for (const Family& family : families)
    for (Compute compute : {Compute::fp64, Compute::fp32, Compute::bf16})
      for (Reproducibility mode : {Reproducibility::run, Reproducibility::layout}) {
        Recipe recipe = small_recipe(compute, mode, 2);
        family.change(recipe);
        const RunResult kept = train_on(recipe, 1, 2);
        for (Recompute recompute : {Recompute::selective, Recompute::full}) {
          recipe.memory.recompute = recompute;
          expect_same_run(kept, train_on(recipe, 1, 2),
                          fmt::format("{}, {}, compute {}, mode {}", family.name, name_of(recompute),
                                      static_cast<int>(compute), static_cast<int>(mode)));
        }
      }
}

// Products of this size are cut between the threads: some millions of multiply-adds.
TEST(Recompute, TwoThreadsGiveTheBitsOfOne) {
  for (Compute compute : {Compute::fp32, Compute::bf16})
    for (Reproducibility mode : {Reproducibility::run, Reproducibility::layout}) {
      Recipe recipe = small_recipe(compute, mode, 4);
      recipe.model.hidden_size = 64, recipe.model.intermediate_size = 512, recipe.model.moe_intermediate_size = 64;
      const int ranks = mode == Reproducibility::layout ? 2 : 1;
      const RunResult one = train_on(recipe, ranks, 2);
      for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
        recipe.memory.recompute = recompute;
        expect_same_run(one, train_on(recipe, ranks, 2, 2),
                        fmt::format("{}, compute {}, mode {}", name_of(recompute), static_cast<int>(compute),
                                    static_cast<int>(mode)));
      }
    }
}

TEST(Recompute, CountsEveryChoiceOnce) {
  Recipe recipe = small_recipe(Compute::fp32, Reproducibility::run);
  const std::int64_t choices =
      recipe.data.global_batch_size.at(0) * recipe.data.sequence_length * recipe.model.num_experts_per_tok;
  const auto E = static_cast<std::size_t>(recipe.model.n_routed_experts);
  for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
    recipe.memory.recompute = recompute;
    const RunResult run = train_on(recipe, 2, 1);
    ASSERT_EQ(run.expert_counts.size(), 3 * E);  // two layers and MTP's
    for (std::size_t l = 0; l < 3; ++l) {
      std::int64_t total = 0;
      for (std::size_t e = 0; e < E; ++e) total += run.expert_counts[l * E + e];
      EXPECT_EQ(total, choices) << name_of(recompute) << ", layer " << l;
    }
  }
}

std::int64_t activations(const Recipe& recipe) {
  for (const auto& [name, bytes] : Engine::measure(recipe, 1))
    if (std::string(name) == "activations") return bytes;
  return -1;
}

TEST(Recompute, ALayerKeepsWhatItsModeSays) {
  for (Compute compute : {Compute::fp32, Compute::bf16}) {
    Recipe recipe = small_recipe(compute, Reproducibility::run, 4);
    const std::int64_t M = 4 * recipe.data.sequence_length, size = compute == Compute::bf16 ? 2 : 4;
    std::int64_t per_layer[3];
    for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
      recipe.memory.recompute = recompute;
      recipe.model.num_hidden_layers = 9;
      const std::int64_t more = activations(recipe);
      recipe.model.num_hidden_layers = 8;
      per_layer[static_cast<int>(recompute)] = more - activations(recipe);
    }
    EXPECT_LT(per_layer[1], per_layer[0] * 3 / 4);
    // The input, and each sequence's balance loss in a cache line.
    EXPECT_EQ(per_layer[2], M * recipe.model.hidden_size * size + 64);
  }
}

}  // namespace
}  // namespace fourmi
