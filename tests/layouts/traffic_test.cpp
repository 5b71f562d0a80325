// What the groups count in a step is what the formulas say, on every rank, to the call and the byte.
#include "framework/train/traffic.h"

#include <gtest/gtest.h>

#include "tests/pipeline/pipeline_recipe.h"
#include "tests/train/blocks.h"
#include "tests/train/runs.h"

namespace fourmi {
namespace {

Recipe wide(Recipe r) {
  r.model.intermediate_size = 64, r.model.moe_intermediate_size = r.model.n_routed_experts > 0 ? 64 : 0;
  r.model.num_attention_heads = 4, r.model.num_key_value_heads = 4;
  return r;
}

Recipe recipe_of(bool dense, Compute compute, Reproducibility mode) {
  return wide(dense ? deep_dense_recipe(compute, mode) : deep_recipe(compute, mode));
}

Recipe with_tensor(Recipe r, int tensor, Recompute recompute = Recompute::none) {
  r.parallel.tensor = tensor;
  r.memory.recompute = recompute;
  return r;
}

/// By group and call, without what is zero.
std::map<std::string, std::pair<std::int64_t, std::int64_t>> figures(const std::vector<GroupTraffic>& traffic) {
  std::map<std::string, std::pair<std::int64_t, std::int64_t>> figures;
  for (const GroupTraffic& g : traffic)
    for (std::size_t c = 0; c < num_calls; ++c)
      if (g.by_call[c] != Traffic{})
        figures[g.group + " " + std::to_string(g.size) + " " + name_of(static_cast<Call>(c))] = {g.by_call[c].calls,
                                                                                                 g.by_call[c].bytes};
  return figures;
}

/// Two steps, of which the second is looked at.
void expect_predicted(const Recipe& recipe, int num_ranks, const std::string& what,
                      const std::vector<std::int64_t>& promoted = {}) {
  const RunResult run = train_on(recipe, num_ranks, 2, 1, [&](Engine& e) { e.promote(promoted); });
  std::vector<std::uint8_t> layers(8);
  for (std::int64_t l : promoted) layers[static_cast<std::size_t>(l)] = 1;
  const std::int64_t data = num_ranks / recipe.parallel.pipeline / recipe.parallel.tensor / recipe.parallel.context;
  const StepSizes step{static_cast<int>(recipe.data.global_batch_size.at(0) / data / recipe.data.micro_batch_size),
                       recipe.loss.balance_weight.at(0) != 0};
  for (int rank = 0; rank < num_ranks; ++rank)
    EXPECT_EQ(figures(run.traffic[static_cast<std::size_t>(rank)]),
              figures(predict_traffic(recipe, num_ranks, rank, step, layers)))
        << what << ", rank " << rank;
}

class Traffics : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(DenseOrNot, Traffics, testing::Bool());

TEST_P(Traffics, OfDataRanks) {
  for (Reproducibility mode : {Reproducibility::run, Reproducibility::layout})
    for (int ranks : {2, 4, 8})
      expect_predicted(recipe_of(GetParam(), Compute::bf16, mode), ranks, std::to_string(ranks) + " data ranks");
}

TEST_P(Traffics, OfZeroLevels) {
  for (std::int64_t zero : {2, 3}) {
    Recipe recipe = recipe_of(GetParam(), Compute::bf16, Reproducibility::layout);
    recipe.parallel.zero = zero;
    const std::string what = "ZeRO " + std::to_string(zero) + ", ";
    expect_predicted(recipe, 4, what + "4 data ranks");
    expect_predicted(with_tensor(recipe, 2, Recompute::full), 4, what + "2 x 2 tensor ranks");
    for (std::string_view schedule : schedules_that_train)
      expect_predicted(with_pipeline(recipe, schedule, 2), 4, what + std::string(schedule));
  }
}

TEST_P(Traffics, OfTensorRanks) {
  for (Reproducibility mode : {Reproducibility::run, Reproducibility::layout})
    for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full})
      for (int tensor : {2, 4}) {
        const Recipe recipe = with_tensor(recipe_of(GetParam(), Compute::bf16, mode), tensor, recompute);
        expect_predicted(recipe, tensor, std::to_string(tensor) + " tensor ranks");
      }
}

TEST_P(Traffics, OfWholeSequencesOnTensorRanks) {
  Recipe recipe = with_tensor(recipe_of(GetParam(), Compute::fp32, Reproducibility::run), 2);
  recipe.data.micro_batch_size = 2;
  expect_predicted(recipe, 2, "a sequence a rank");
  recipe.data.sequence_length = recipe.model.max_position_embeddings = 512;
  expect_predicted(recipe, 2, "a head in chunks");
  recipe.loss.balance_weight = {{{0, 0.0}}};
  recipe.data.micro_batch_size = 1;
  expect_predicted(recipe, 2, "no balance loss");
}

TEST_P(Traffics, OfStages) {
  for (std::string_view schedule : schedules_that_train)
    for (Recompute recompute : {Recompute::none, Recompute::full})
      expect_predicted(
          with_pipeline(recipe_of(GetParam(), Compute::bf16, Reproducibility::run), schedule, 2, recompute), 2,
          std::string(schedule));
}

TEST_P(Traffics, OfContextRanks) {
  for (Reproducibility mode : {Reproducibility::run, Reproducibility::layout})
    for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full})
      for (int tensor : {1, 2}) {
        Recipe recipe = with_tensor(recipe_of(GetParam(), Compute::bf16, mode), tensor, recompute);
        recipe.parallel.context = 2;
        expect_predicted(recipe, 4, std::to_string(tensor) + " tensor ranks beside 2 context ranks");
        recipe.data.micro_batch_size = 2;
        expect_predicted(recipe, 2 * tensor, "the same with 2 sequences");
      }
}

/// Rows that products read travel with their scales, all else as in bf16.
TEST_P(Traffics, OfEightBits) {
  const std::pair<const char*, Recompute> cases[] = {
      {"fp8-block", Recompute::none}, {"fp8-block", Recompute::full}, {"mxfp8", Recompute::selective}};
  for (const auto& [name, recompute] : cases) {
    Recipe recipe = in_blocks(with_tensor(recipe_of(GetParam(), Compute::bf16, Reproducibility::run), 2, recompute), 2);
    for (const auto& [of, precision] : precisions_of_eight)
      if (of == std::string(name)) recipe.precision = precision;
    recipe.parallel.context = 2;
    expect_predicted(recipe, 4, name + std::string(", 2 tensor ranks beside 2 context ranks"));
    expect_predicted(recipe, 4, name + std::string(", with a layer in bf16"), {1});
    const auto gathered = [](const Recipe& r) {
      std::int64_t bytes = 0;
      for (const GroupTraffic& g : predict_traffic(r, 4, 0, {8, true}))
        if (g.group == "tensor") bytes += g.by_call[static_cast<std::size_t>(Call::all_gather)].bytes;
      return bytes;
    };
    Recipe bf16 = recipe;
    bf16.precision.compute = Compute::bf16;
    EXPECT_LT(gathered(recipe), gathered(bf16) * 4 / 5);
  }
}

/// Weights travel as products read them, those of layers in bf16 in bf16; current scaling asks for largest magnitudes.
TEST_P(Traffics, OfWeightsInEightBits) {
  for (const auto& [name, precision] : precisions_of_eight)
    for (const std::int64_t zero : {1, 2, 3}) {
      Recipe recipe = with_precision(in_blocks(recipe_of(GetParam(), Compute::bf16, Reproducibility::run)), precision);
      recipe.parallel.zero = zero;
      const std::string what = name + std::string(", ZeRO ") + std::to_string(zero);
      expect_predicted(recipe, 2, what);
      if (precision.gradient_block == GradientBlock::row && zero != 2)
        expect_predicted(recipe, 2, what + ", with a layer in bf16", {1});
    }
}

/// A weight's elements and scales instead of two bytes each, from its owners to the other ranks.
TEST(Traffic, WeightsInEightBitsAreSentOnce) {
  constexpr int ranks = 4;
  Recipe recipe = in_blocks(recipe_of(true, Compute::bf16, Reproducibility::run));
  const auto gathered = [&](Compute compute) {
    recipe.precision.compute = compute;
    std::int64_t bytes = 0;
    for (int rank = 0; rank < ranks; ++rank)
      for (const GroupTraffic& g : predict_traffic(recipe, ranks, rank, {2, false}))
        bytes += g.by_call[static_cast<std::size_t>(Call::all_gather)].bytes;
    return bytes;
  };
  const std::pair<Compute, DType> cases[] = {{Compute::fp8_block, DType::e4m3_panels},
                                             {Compute::fp8_tensor, DType::e4m3_panels},
                                             {Compute::mxfp8, DType::mxe4m3_rows}};
  for (const auto& [compute, matrix] : cases) {
    const ParameterTable table(recipe.model);
    std::int64_t saved = 0;
    for (const Parameter& p : table.all())
      if (p.is_map) saved += (bytes_of(DType::bf16, p.shape) - bytes_of(matrix, p.shape)) * (ranks - 1);
    EXPECT_EQ(gathered(Compute::bf16) - gathered(compute), saved);
  }
}

TEST_P(Traffics, OfRings) {
  for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full})
    for (int tensor : {1, 2}) {
      Recipe recipe = with_tensor(recipe_of(GetParam(), Compute::bf16, Reproducibility::run), tensor, recompute);
      recipe.parallel.context = 4 / tensor, recipe.parallel.context_method = ContextMethod::ring;
      recipe.data.micro_batch_size = 2;
      expect_predicted(recipe, 4, std::to_string(tensor) + " tensor ranks beside a ring");
    }
}

TEST_P(Traffics, OfMixtures) {
  for (std::string_view schedule : schedules_that_train)
    for (Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
      const Recipe recipe = recipe_of(GetParam(), Compute::fp32, Reproducibility::run);
      expect_predicted(with_pipeline(with_tensor(recipe, 2), schedule, 2, recompute), 8,
                       "2 x 2 x 2, " + std::string(schedule));
    }
}

TEST(Traffic, AGroupOfOneSendsNothing) {
  auto self = make_self_group("alone");
  const RankGroups ranks(*self);
  double x = 1;
  self->all_max(std::span(&x, 1));
  self->barrier();
  for (const Traffic& t : self->traffic()) EXPECT_EQ(t, Traffic{});
  EXPECT_TRUE(TrafficMeter(ranks).step().empty());
  const RunResult run = train_on(recipe_of(false, Compute::fp32, Reproducibility::run), 1, 1);
  EXPECT_TRUE(run.traffic[0].empty());
}

}  // namespace
}  // namespace fourmi
