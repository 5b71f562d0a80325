// The expert axis changes nothing that it must not change, alone and with the other axes, by each way of the rows.
#include <gtest/gtest.h>

#include "tests/pipeline/pipeline_recipe.h"
#include "tests/train/runs.h"

namespace fourmi {
namespace {

Recipe recipe_of(Compute compute, Reproducibility mode) {
  Recipe r = small_recipe(compute, mode);
  r.model.intermediate_size = r.model.moe_intermediate_size = 64;
  r.model.num_experts_per_tok = 3;
  return r;
}

struct Layout {
  std::string name;
  int ranks = 1, expert = 1, expert_tensor = 1, tensor = 1, context = 1, pipeline = 1, node_size = 0, zero = 1;
  double bound = 0;
  std::string schedule = "1f1b";
  Recompute recompute = Recompute::none;

  Recipe of(Recipe r) const {
    r.parallel.expert = expert, r.parallel.expert_tensor = expert_tensor, r.parallel.tensor = tensor;
    r.parallel.zero = zero, r.parallel.context = context;
    if (node_size > 0) r.parallel.dispatch_node_size = node_size;
    if (bound > 0) r.parallel.dispatch_bound = bound;
    r.memory.recompute = recompute;
    return pipeline > 1 ? with_pipeline(r, schedule, pipeline, recompute) : r;
  }
};

const std::vector<Layout> layouts{
    {.name = "expert 2", .ranks = 2, .expert = 2},
    {.name = "expert 4", .ranks = 4, .expert = 4},
    {.name = "expert 8", .ranks = 8, .expert = 8},
    {.name = "selective", .ranks = 2, .expert = 2, .recompute = Recompute::selective},
    {.name = "full", .ranks = 4, .expert = 4, .recompute = Recompute::full},
    {.name = "expert 2 x expert-data 2", .ranks = 4, .expert = 2},
    {.name = "expert 4 over tensor 2 x data 2", .ranks = 4, .expert = 4, .tensor = 2},
    {.name = "expert 2 over tensor 4", .ranks = 4, .expert = 2, .tensor = 4, .recompute = Recompute::full},
    {.name = "nodes of 2", .ranks = 4, .expert = 4, .node_size = 2},
    {.name = "nodes of 4", .ranks = 8, .expert = 8, .node_size = 4, .recompute = Recompute::selective},
    {.name = "bound", .ranks = 4, .expert = 4, .bound = 1.25},
    {.name = "bound, full", .ranks = 4, .expert = 4, .bound = 1.25, .recompute = Recompute::full},
    {.name = "bound, nodes of 2, tensor 2", .ranks = 4, .expert = 4, .tensor = 2, .node_size = 2, .bound = 1.5},
    {.name = "2 stages", .ranks = 4, .expert = 2, .pipeline = 2, .recompute = Recompute::selective},
    {.name = "2 stages, zb-v", .ranks = 8, .expert = 4, .pipeline = 2, .schedule = "zb-v"},
    {.name = "2 stages, dualpipev, tensor 2",
     .ranks = 8,
     .expert = 4,
     .tensor = 2,
     .pipeline = 2,
     .schedule = "dualpipev"},
    {.name = "expert-tensor 2", .ranks = 2, .expert_tensor = 2},
    {.name = "expert-tensor 4", .ranks = 4, .expert_tensor = 4, .recompute = Recompute::full},
    {.name = "expert-tensor 2 over tensor 2", .ranks = 2, .expert_tensor = 2, .tensor = 2},
    {.name = "expert-tensor 2 x expert-data 2", .ranks = 4, .expert_tensor = 2, .recompute = Recompute::selective},
    {.name = "expert 2 x expert-tensor 2", .ranks = 4, .expert = 2, .expert_tensor = 2},
    {.name = "expert 2 x expert-tensor 2, bound", .ranks = 4, .expert = 2, .expert_tensor = 2, .bound = 1.25},
    {.name = "expert 2 x expert-tensor 4 over tensor 4 x data 2",
     .ranks = 8,
     .expert = 2,
     .expert_tensor = 4,
     .tensor = 4,
     .recompute = Recompute::selective},
    {.name = "2 stages, zb-v, expert 2 x expert-tensor 2, bound",
     .ranks = 8,
     .expert = 2,
     .expert_tensor = 2,
     .pipeline = 2,
     .bound = 1.25,
     .schedule = "zb-v",
     .recompute = Recompute::full},
    {.name = "expert 2 over context 2", .ranks = 2, .expert = 2, .context = 2},
    {.name = "expert 4 over tensor 2 x context 2, bound",
     .ranks = 4,
     .expert = 4,
     .tensor = 2,
     .context = 2,
     .bound = 1.25,
     .recompute = Recompute::full},
    {.name = "expert 2 x expert-tensor 2 over context 4", .ranks = 4, .expert = 2, .expert_tensor = 2, .context = 4},
    {.name = "zero 3, expert 2 x expert-data 2, bound", .ranks = 4, .expert = 2, .zero = 3, .bound = 1.25},
    {.name = "zero 2, 2 stages, zb-h1, bound",
     .ranks = 8,
     .expert = 2,
     .pipeline = 2,
     .zero = 2,
     .bound = 1.25,
     .schedule = "zb-h1"},
    {.name = "zero 3, 2 stages, zb-v, expert 2 x expert-tensor 2, bound",
     .ranks = 8,
     .expert = 2,
     .expert_tensor = 2,
     .pipeline = 2,
     .zero = 3,
     .bound = 1.25,
     .schedule = "zb-v",
     .recompute = Recompute::selective},
    {.name = "2 stages, zb-h1, bound", .ranks = 4, .expert = 2, .pipeline = 2, .bound = 1.25, .schedule = "zb-h1"},
};

Recipe deep(Recipe r, bool is) {
  if (is) r.model.num_hidden_layers = 5;
  return r;
}

/// One rank's run of each depth.
struct OneRank {
  OneRank(const Recipe& recipe, int steps) : runs{train_on(recipe, 1, steps), train_on(deep(recipe, true), 1, steps)} {}
  const RunResult& of(const Layout& layout) const { return runs[layout.pipeline > 1]; }
  RunResult runs[2];
};

TEST(Experts, GradientsAgreeInFp64) {
  const Recipe recipe = recipe_of(Compute::fp64, Reproducibility::run);
  const OneRank one(recipe, 1);
  for (const Layout& layout : layouts)
    expect_agreement(one.of(layout), train_on(layout.of(deep(recipe, layout.pipeline > 1)), layout.ranks, 1),
                     layout.name);
}

TEST(Experts, LayoutModeGivesEqualBits) {
  for (const Compute compute : {Compute::fp32, Compute::bf16}) {
    const Recipe recipe = recipe_of(compute, Reproducibility::layout);
    const OneRank one(recipe, 2);
    for (const Layout& layout : layouts)
      expect_equal_bits(one.of(layout), train_on(layout.of(deep(recipe, layout.pipeline > 1)), layout.ranks, 2),
                        layout.name);
  }
}

// Everything comes to the first rank, in at least as many rounds as its buffers are too small for; bits stay.
TEST(Experts, AllTokensForOneExpertGoThroughBoundedBuffers) {
  Recipe recipe = recipe_of(Compute::bf16, Reproducibility::layout);
  recipe.model.num_experts_per_tok = 1;
  const auto to_the_first = [](Engine& engine) {
    for (const Slot& bias : engine.router_biases()) engine.store().weight(bias).as<float>()[0] = 1000;
  };
  const auto run = [&](const Recipe& r, int ranks) { return train_on(r, ranks, 2, 1, to_the_first); };
  const RunResult one = run(recipe, 1);
  for (std::size_t i = 0; i < one.expert_counts.size(); ++i) EXPECT_EQ(one.expert_counts[i] == 0, i % 8 != 0) << i;
  for (const Recompute recompute : {Recompute::none, Recompute::full}) {
    Layout layout{.name = "unbounded", .ranks = 4, .expert = 4, .recompute = recompute};
    expect_equal_bits(one, run(layout.of(recipe), 4), layout.name);
    const std::int64_t unbounded = measured_bytes(layout.of(recipe), 4);
    layout.name = "bounded", layout.bound = 1.25;
    const Recipe bounded = layout.of(recipe);
    const DispatchSizes sizes =
        dispatch_sizes(DispatchMethod::all_to_all, 4, expert_ranks(bounded).options(recipe.model, 32, DType::f32));
    EXPECT_EQ(sizes.most_arrivals, 40) << "1.25 x 32 tokens, of the 128 that come";
    EXPECT_EQ(sizes.most_choices, 40);
    const RunResult many = run(bounded, 4);
    expect_equal_bits(one, many, layout.name);
    EXPECT_EQ(most_bytes(many), measured_bytes(bounded, 4));
    EXPECT_LT(measured_bytes(bounded, 4), unbounded);
  }
}

TEST(Experts, MeasureTellsTheMemoryToTheByte) {
  for (const Layout& layout : layouts) {
    const Recipe recipe = layout.of(deep(recipe_of(Compute::bf16, Reproducibility::layout), layout.pipeline > 1));
    EXPECT_EQ(most_bytes(train_on(recipe, layout.ranks, 1)), measured_bytes(recipe, layout.ranks)) << layout.name;
  }
}

TEST(Experts, ARankHoldsAndUpdatesItsExpertsOnly) {
  const Recipe recipe = recipe_of(Compute::bf16, Reproducibility::run);
  const auto bytes = [](const Engine::Memory& memory, std::string_view name) {
    for (const auto& [arena, size] : memory)
      if (arena == name) return size;
    return std::int64_t{-1};
  };
  // One rank of all, and one of four that share the experts: what is gone is three quarters of the experts.
  const Engine::Memory all = Engine::measure(recipe, 4),
                       shared = Engine::measure(Layout{.name = "", .expert = 4}.of(recipe), 4);
  std::int64_t experts = 0;
  const ParameterTable table(recipe.model);
  for (const Parameter& p : table.all())
    if (p.routed_expert) experts += p.shape.num_elements();
  const auto near = [](std::int64_t got, std::int64_t expected) {  // up to the arena's alignment and odd panels
    EXPECT_NEAR(static_cast<double>(got), static_cast<double>(expected), 0.02 * static_cast<double>(expected));
  };
  near(bytes(all, "weights") - bytes(shared, "weights"), experts * 3 / 4 * 2);
  near(bytes(all, "gradients") - bytes(shared, "gradients"), experts * 3 / 4 * 4);
}

}  // namespace
}  // namespace fourmi
