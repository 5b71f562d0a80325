// Ranks that share each sequence find what one rank with whole sequences finds: alone and beside the other axes, on
// packed documents, with balance loss and multi-token prediction.
#include <gtest/gtest.h>

#include "framework/data/validation.h"
#include "framework/model/sequence_part.h"
#include "tests/layouts/layouts.h"

namespace fourmi {
namespace {

/// Latent attention, experts, MTP, balance loss; or grouped queries with windows and tied embeddings.
Recipe recipe_of(bool dense, Compute compute, Reproducibility mode, std::int64_t micro_batch_size = 1) {
  Recipe r = dense ? family_recipe(dense_family, compute, mode, micro_batch_size)
                   : small_recipe(compute, mode, micro_batch_size);
  r.model.intermediate_size = 64, r.model.moe_intermediate_size = dense ? 0 : 64;
  r.model.num_key_value_heads = dense ? 2 : 4;
  r.model.num_hidden_layers = 4;
  r.model.layer_types.clear();
  return r;
}

Recipe with_context(Recipe r, int context, int tensor = 1, Recompute recompute = Recompute::none) {
  r.parallel.context = context, r.parallel.tensor = tensor;
  r.memory.recompute = recompute;
  return r;
}

TEST(Context, PartsOfASequenceAreAllOfItAndInARingCostTheSame) {
  constexpr std::int64_t T = 48;
  for (bool zig_zag : {false, true})
    for (int size : {1, 2, 4, 8}) {
      std::vector<int> times(T);
      std::vector<std::int64_t> pairs;  // of queries and keys that they see
      for (int rank = 0; rank < size; ++rank) {
        std::int64_t& seen = pairs.emplace_back(0);
        for (const Share::Range run : SequencePart{rank, size, zig_zag}.runs(T))
          for (std::int64_t t = run.begin; t < run.end; ++t) ++times[static_cast<std::size_t>(t)], seen += t + 1;
      }
      EXPECT_EQ(times, std::vector<int>(T, 1)) << size;
      EXPECT_EQ(zig_zag || size == 1, pairs.front() == pairs.back()) << size;
      if (zig_zag) {
        EXPECT_EQ(pairs, std::vector<std::int64_t>(static_cast<std::size_t>(size), T * (T + 1) / 2 / size));
      }
    }
}

class Contexts : public testing::TestWithParam<bool> {
 protected:
  Recipe of(Compute compute, Reproducibility mode, std::int64_t micro_batch_size = 1) const {
    return documents.in(recipe_of(GetParam(), compute, mode, micro_batch_size));
  }
  ShortDocuments documents;
};
INSTANTIATE_TEST_SUITE_P(DenseOrNot, Contexts, testing::Bool());

TEST_P(Contexts, GradientsAgreeInFp64) {
  const Recipe recipe = of(Compute::fp64, Reproducibility::run), two = of(Compute::fp64, Reproducibility::run, 2);
  const RunResult one = train_on(recipe, 1, 1);
  for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full})
    expect_agreement(one, train_on(with_context(recipe, 2, 1, recompute), 2, 1), "2 ranks");
  expect_agreement(one, train_on(with_context(recipe, 4), 4, 1), "4 ranks");
  expect_agreement(one, train_on(with_context(recipe, 8), 8, 1), "8 ranks");
  expect_agreement(one, train_on(with_context(two, 4), 4, 1), "4 ranks, two sequences at once");
  expect_agreement(one, train_on(with_context(two, 2, 2), 8, 1), "2 x 2 tensor x 2 data ranks, two sequences");
  expect_agreement(one, train_on(with_context(recipe, 4, 2), 8, 1), "4 x 2 tensor ranks");
  expect_agreement(one, train_on(with_pipeline(with_context(recipe, 2), "1f1b", 2), 8, 1), "2 x 2 stages x 2 data");
}

TEST_P(Contexts, WholeSequencesAsOneDocument) {
  Recipe recipe = of(Compute::fp64, Reproducibility::run);
  recipe.data.cross_document_attention = true;
  expect_agreement(train_on(recipe, 1, 1), train_on(with_context(recipe, 4), 4, 1), "4 ranks");
}

TEST_P(Contexts, TheRingAgreesInFp64) {
  const auto ring = [](Recipe r) {
    r.parallel.context_method = ContextMethod::ring;
    return r;
  };
  Recipe recipe = of(Compute::fp64, Reproducibility::run);
  const Recipe two = of(Compute::fp64, Reproducibility::run, 2);
  const RunResult one = train_on(recipe, 1, 1);
  for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full})
    expect_agreement(one, train_on(ring(with_context(recipe, 2, 1, recompute)), 2, 1), "2 ranks");
  expect_agreement(one, train_on(ring(with_context(recipe, 4)), 4, 1), "4 ranks");
  expect_agreement(one, train_on(ring(with_context(recipe, 8)), 8, 1), "8 ranks");
  expect_agreement(one, train_on(ring(with_context(two, 4)), 4, 1), "4 ranks, two sequences at once");
  expect_agreement(one, train_on(ring(with_context(two, 2, 2)), 8, 1), "2 x 2 tensor x 2 data ranks, two sequences");
  expect_agreement(one, train_on(with_pipeline(ring(with_context(recipe, 2)), "zb-v", 2), 8, 1),
                   "2 x 2 stages x 2 data ranks");
  if (!GetParam()) {
    Recipe experts = ring(with_context(two, 4));
    experts.parallel.expert = 2;
    expect_agreement(one, train_on(experts, 4, 1), "4 ranks, each two of which share experts");
  }
  recipe.data.cross_document_attention = true;
  expect_agreement(train_on(recipe, 1, 1), train_on(ring(with_context(recipe, 4)), 4, 1), "4 ranks, one document");
}

TEST_P(Contexts, TheRingRepeatsItsBits) {
  for (Compute compute : {Compute::fp32, Compute::bf16}) {
    Recipe recipe = with_context(of(compute, Reproducibility::run, 2), 4);
    recipe.parallel.context_method = ContextMethod::ring;
    const RunResult once = train_on(recipe, 4, 3);
    expect_equal_bits(once, train_on(recipe, 4, 3, 2), "again, with two threads a rank");
    const RunResult one = train_on(of(compute, Reproducibility::run, 2), 1, 3);
    EXPECT_NEAR(once.steps[2].loss, one.steps[2].loss, compute == Compute::bf16 ? 0.02 : 1e-4);
    EXPECT_NEAR(once.steps[0].grad_norm, one.steps[0].grad_norm,
                (compute == Compute::bf16 ? 0.02 : 1e-4) * one.steps[0].grad_norm);
  }
}

TEST_P(Contexts, LayoutModeGivesEqualBits) {
  for (Compute compute : {Compute::fp32, Compute::bf16}) {
    const Recipe recipe = of(compute, Reproducibility::layout), two = of(compute, Reproducibility::layout, 2);
    const RunResult one = train_on(recipe, 1, 3);
    expect_equal_bits(one, train_on(with_context(recipe, 2, 1, Recompute::full), 2, 3), "2 ranks");
    expect_equal_bits(one, train_on(with_context(two, 4), 4, 3), "4 ranks, two sequences at once");
    expect_equal_bits(one, train_on(with_context(recipe, 8), 8, 3), "8 ranks");
    expect_equal_bits(one, train_on(with_context(recipe, 2), 4, 3), "2 x 2 data ranks");
    expect_equal_bits(one, train_on(with_context(recipe, 4, 2), 8, 3), "4 x 2 tensor ranks");
    expect_equal_bits(one, train_on(with_context(two, 2, 2), 8, 3), "2 x 2 tensor x 2 data ranks, two sequences");
    Recipe divided = with_context(recipe, 2, 1, Recompute::selective);
    divided.parallel.zero = 3;
    expect_equal_bits(one, train_on(divided, 4, 3), "2 x 2 data ranks, ZeRO 3");
    expect_equal_bits(one, train_on(with_pipeline(with_context(recipe, 2), "zb-v", 2), 8, 3),
                      "2 x 2 stages x 2 data ranks");
  }
}

TEST_P(Contexts, MeasureTellsTheMemoryToTheByte) {
  for (const auto& [tensor, recompute, method] : {std::tuple{1, Recompute::none, ContextMethod::all_gather},
                                                  {1, Recompute::full, ContextMethod::all_gather},
                                                  {2, Recompute::selective, ContextMethod::all_gather},
                                                  {1, Recompute::none, ContextMethod::ring},
                                                  {2, Recompute::full, ContextMethod::ring}}) {
    Recipe recipe = with_context(of(Compute::bf16, Reproducibility::run, 2), 2, tensor, recompute);
    recipe.parallel.context_method = method;
    const RunResult run = train_on(recipe, 4, 1);
    std::int64_t most = 0, predicted = 0;
    for (const Engine::Memory& rank : run.memory) {
      std::int64_t bytes = 0;
      for (const auto& [name, size] : rank) bytes += size;
      most = std::max(most, bytes);
    }
    for (const auto& [name, size] : Engine::measure(recipe, 4)) predicted += size;
    EXPECT_EQ(most, predicted);
  }
}

EvaluationResult evaluation_of(const Recipe& recipe, int num_ranks) {
  auto groups = make_thread_groups("world", num_ranks);
  EvaluationResult result;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank)
    threads.emplace_back([&, rank] {
      ThreadPool pool(1);
      const Stream stream(pool);
      const std::vector<LoadedSource> sources = load_sources(recipe.data.train, "data.train");
      const Validation validation(recipe.data, sources, recipe.run.seed, recipe.model.vocab_size);
      const RankGroups ranks = make_groups(recipe, *groups[static_cast<std::size_t>(rank)]);
      Engine engine(recipe, ranks, stream);
      engine.initialise();
      const EvaluationResult r = engine.evaluate(validation, 7);
      if (rank == num_ranks - 1) result = r;
    });
  for (std::thread& t : threads) t.join();
  return result;
}

TEST_P(Contexts, EvaluationCountsEachTargetOnce) {
  Recipe recipe = of(Compute::fp32, Reproducibility::layout, 2);
  recipe.data.validation = recipe.data.train;
  const EvaluationResult one = evaluation_of(recipe, 1);
  EXPECT_GT(one.tokens, 100);
  Recipe ring = with_context(of(Compute::fp64, Reproducibility::run, 2), 4);
  ring.data.validation = ring.data.train, ring.parallel.context_method = ContextMethod::ring;
  const EvaluationResult double_one = evaluation_of(with_context(ring, 1), 1), double_ring = evaluation_of(ring, 8);
  EXPECT_EQ(double_ring.tokens, one.tokens);
  EXPECT_NEAR(double_ring.loss, double_one.loss, 1e-12);
  EXPECT_NEAR(double_ring.loss_mtp, double_one.loss_mtp, 1e-12);
  for (const auto& [context, tensor, pipeline] : {std::tuple{2, 1, 1}, {4, 1, 1}, {2, 2, 1}, {2, 1, 2}}) {
    Recipe r = with_context(recipe, context, tensor);
    if (pipeline > 1) r = with_pipeline(r, "1f1b", pipeline);
    const EvaluationResult many = evaluation_of(r, 8);
    EXPECT_EQ(many.tokens, one.tokens) << context << " x " << tensor;
    EXPECT_EQ(many.loss, one.loss) << context << " x " << tensor;
    EXPECT_EQ(many.loss_mtp, one.loss_mtp) << context << " x " << tensor;
    EXPECT_EQ(many.bits_per_byte, one.bits_per_byte) << context << " x " << tensor;
  }
}

/// What the balance loss adds to the routers' gradients: it is made of whole sequences' statistics, so a rank that knew
/// its own rows' alone would train routers towards another aim, and no loss would tell.
TEST(Context, TheBalanceLossFlowsAcrossTheCut) {
  const ShortDocuments documents;
  const auto added = [&](int context, int ranks) {
    Recipe r = with_context(documents.in(recipe_of(false, Compute::fp64, Reproducibility::run)), context);
    r.loss.balance_weight.steps = {{0, 0.5}};
    std::map<std::string, std::vector<double>> with = train_on(r, ranks, 1).gradients, without;
    r.loss.balance_weight.steps = {{0, 0.0}};
    without = train_on(r, ranks, 1).gradients;
    std::map<std::string, std::vector<double>> difference;
    for (const auto& [name, values] : with)
      if (name.ends_with("mlp.gate.weight"))
        for (std::size_t i = 0; i < values.size(); ++i) difference[name].push_back(values[i] - without.at(name)[i]);
    return difference;
  };
  const auto one = added(1, 1);
  EXPECT_EQ(one.size(), 4u) << "three layers and multi-token prediction";
  for (int context : {2, 8})
    for (const auto& [name, values] : added(context, context))
      EXPECT_LE(relative_error(one.at(name), values), 1e-9) << context << " ranks: " << name;
}

}  // namespace
}  // namespace fourmi
