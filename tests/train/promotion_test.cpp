// Layers that work in bf16 in a run of eight bits: they compute as bf16 does, wherever they lie and however the others
// keep their activations.
#include <gtest/gtest.h>

#include <numeric>

#include "tests/train/blocks.h"
#include "tests/train/family_recipe.h"
#include "tests/train/runs.h"

namespace fourmi {
namespace {

constexpr Reproducibility run = Reproducibility::run, layout = Reproducibility::layout;

/// Three layers, the first dense, and multi-token prediction.
Recipe latent(Compute compute, Reproducibility mode = run) {
  return in_blocks(small_recipe(compute, mode, 2), 2);
}
Recipe grouped(Compute compute, Reproducibility mode = run) {
  return in_blocks(family_recipe(dense_family, compute, mode, 2));
}
std::vector<std::int64_t> all_layers(const Recipe& r) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(r.model.num_hidden_layers + r.model.num_nextn_predict_layers));
  std::iota(all.begin(), all.end(), 0);
  return all;
}
RunResult promoted(const Recipe& recipe, std::vector<std::int64_t> layers, int ranks = 1, int steps = 2) {
  return train_on(recipe, ranks, steps, 1, [&](Engine& e) { e.promote(layers); });
}

constexpr Recompute modes[] = {Recompute::none, Recompute::selective, Recompute::full};

TEST(Promotion, OfAllLayersGivesTheBitsOfBf16) {
  for (const auto family : {latent, grouped}) {
    const RunResult bf16 = train_on(family(Compute::bf16, run), 1, 2);
    for (Recompute recompute : modes) {
      Recipe recipe = family(Compute::fp8_block, run);
      recipe.memory.recompute = recompute;
      expect_equal_bits(bf16, promoted(recipe, all_layers(recipe)), std::to_string(static_cast<int>(recompute)));
    }
  }
}

TEST(Promotion, OfSomeLayersIsTheSameHoweverTheOthersKeepTheirActivations) {
  for (const Recipe& recipe :
       {latent(Compute::fp8_block, run), latent(Compute::fp8_block, layout), grouped(Compute::fp8_block, run)}) {
    const RunResult eight = train_on(recipe, 1, 2);
    for (const std::vector<std::int64_t>& layers : {std::vector<std::int64_t>{0, 2}, {all_layers(recipe).back()}}) {
      const RunResult kept = promoted(recipe, layers);
      EXPECT_NE(kept.steps[0].grad_norm, eight.steps[0].grad_norm);
      EXPECT_EQ(kept.memory[0], Engine::measure(recipe, 1));
      for (Recompute recompute : {Recompute::selective, Recompute::full}) {
        Recipe other = recipe;
        other.memory.recompute = recompute;
        const RunResult again = promoted(other, layers);
        expect_equal_bits(kept, again, fmt::format("layer {}", layers[0]));
        EXPECT_EQ(again.memory[0], Engine::measure(other, 1));
      }
    }
  }
}

TEST(Promotion, IsSeenInWhatProductsRead) {
  train_on(latent(Compute::fp8_block), 1, 1, 1, [](Engine& e) {
    e.promote(std::vector<std::int64_t>{1});
    e.set_operand_probe([&e](const Slot& w, OperandRole, const Tensor& x) {
      const auto& all = e.store().table().all();
      const auto of = std::find_if(all.begin(), all.end(),
                                   [&](const Parameter& p) { return p.set == w.set && p.offset == w.offset; });
      EXPECT_EQ(x.dtype, of->layer == 1 ? DType::bf16 : DType::e4m3_rows) << of->name;
    });
  });
}

struct Axes {
  const char* name;
  int ranks;
  void (*set)(ParallelSection&);
};
constexpr Axes layouts[] = {
    {"data", 2, [](ParallelSection&) {}},
    {"zero 3", 2, [](ParallelSection& p) { p.zero = 3; }},
    {"tensor", 2, [](ParallelSection& p) { p.tensor = 2; }},
    {"expert", 2, [](ParallelSection& p) { p.expert = 2; }},
    {"context", 2, [](ParallelSection& p) { p.context = 2; }},
    {"1f1b", 2, [](ParallelSection& p) { p.pipeline = 2; }},
    {"zb-v", 2, [](ParallelSection& p) { p.pipeline = 2, p.pipeline_schedule = "zb-v"; }},
    {"dualpipev, zero 2", 2, [](ParallelSection& p) { p.pipeline = 2, p.pipeline_schedule = "dualpipev", p.zero = 2; }},
    {"pairs", 2,
     [](ParallelSection& p) {
       p.pipeline = 2, p.pipeline_schedule = "dualpipev", p.overlap_pairs = OverlapPairs::always;
     }},
};

/// Every call is held against its order (train_on), and layouts give one rank's bits.
TEST(Promotion, GivesOneRanksBitsInEveryLayout) {
  Recipe recipe = latent(Compute::fp8_block, layout);
  recipe.model.num_hidden_layers = 4;
  recipe.data.micro_batch_size = 1, recipe.data.global_batch_size = 4;
  const std::vector<std::int64_t> layers{1, 4};
  const RunResult one = promoted(recipe, layers);
  for (const Axes& axes : layouts)
    for (Recompute recompute : {Recompute::none, Recompute::selective}) {
      const bool moves_rows = std::string(axes.name) == "tensor" || std::string(axes.name) == "1f1b";
      if (recompute != Recompute::none && !moves_rows) continue;
      Recipe r = recipe;
      axes.set(r.parallel);
      r.memory.recompute = recompute;
      expect_equal_bits(one, promoted(r, layers, axes.ranks), axes.name);
    }
}

TEST(Promotion, NeedsTheGuardsMemory) {
  Recipe recipe = latent(Compute::fp8_block);
  recipe.guard.precision_every = 0;
  EXPECT_THROW(promoted(recipe, {1}), std::runtime_error);
  EXPECT_NO_THROW(promoted(latent(Compute::bf16), {1}, 1, 1));
}

}  // namespace
}  // namespace fourmi
