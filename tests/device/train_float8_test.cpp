// A whole step of training in eight bits on a card beside the CPU's, in sizes that Hopper's products fit. That they did
// the work is known from the count of what their units were given: it is the sum over all maps, forward and both
// gradients, of the pieces that plan.h cuts them into, no more and no fewer.
#include <gtest/gtest.h>

#include "kernels/runtime/cuda_devices.h"
#include "tests/hopper/card.h"
#include "tests/train/blocks.h"
#include "tests/train/runs.h"

namespace fourmi {
namespace {

/// One dense layer and one of experts, a micro-batch of 64 tokens.
Recipe recipe_of(const PrecisionSection& precision) {
  Recipe r = with_precision(in_blocks(small_recipe(Compute::bf16, Reproducibility::run, 2)), precision);
  r.model.num_hidden_layers = 2, r.model.num_nextn_predict_layers = 0;
  r.model.n_routed_experts = 4, r.model.n_group = 2, r.model.topk_group = 1;
  r.data.global_batch_size = 2;
  return r;
}

/// Rounding to eight bits is a threshold: what differs in the last place before it (attention's sums, bf16) differs by
/// an eighth of itself behind it, here and there. So the card is held to the CPU's by how far eight bits are from fp32:
/// not farther from fp32 than the CPU's, and nearer to these than they are to it.
void expect_agreement_in_eight_bits(const Recipe& recipe, const RunResult& cpu, const RunResult& card) {
  Recipe exact = recipe;
  exact.precision = {.compute = Compute::fp32};
  const RunResult fp32 = train_on(exact, 1, 1);
  EXPECT_NEAR(card.steps[0].loss, cpu.steps[0].loss, 1e-2 * cpu.steps[0].loss);
  EXPECT_NEAR(card.steps[0].grad_norm, cpu.steps[0].grad_norm, 5e-2 * cpu.steps[0].grad_norm);
  ASSERT_EQ(card.expert_counts, cpu.expert_counts) << "another choice of experts: nothing further is to be compared";
  double between = 0, bits = 0;
  for (const auto& [name, expected] : fp32.gradients) {
    const std::vector<double>&ours = cpu.gradients.at(name), &cards = card.gradients.at(name);
    const double rounding = relative_error(expected, ours);
    EXPECT_LE(relative_error(ours, cards), 0.8 * rounding) << name;
    EXPECT_LE(relative_error(expected, cards), 1.25 * rounding) << name;
    between += relative_error(ours, cards), bits += rounding;
  }
  EXPECT_LE(between, 0.6 * bits) << "over all gradients";
}

/// What products read as one tensor: E matrices [N, K].
struct Map {
  std::int64_t layer, E, N, K;
  bool experts;
};
std::vector<Map> maps_of(const ParameterTable& table) {
  std::vector<Map> maps;
  for (const Parameter& p : table.all()) {
    if (!p.is_map) continue;
    if (p.joined == Joined::no)
      maps.push_back({p.layer, 1, 0, p.shape[1], p.routed_expert});
    else
      maps.back().E += p.joined == Joined::as_matrix ? 1 : 0;
    maps.back().N += p.shape[0];
  }
  for (Map& m : maps) m.N /= m.E;
  return maps;
}

/// Products that a warpgroup begins (each of its threads, four a step): 64 rows, 128 columns, 128 of the sum.
std::int64_t begun(std::int64_t rows, std::int64_t columns, std::int64_t sum) {
  const auto pieces = [](std::int64_t n, std::int64_t of) { return (n + of - 1) / of; };
  return 128 * 4 * pieces(rows, 64) * pieces(columns, 128) * pieces(sum, 128);
}

TEST(TrainOnCard, AStepInFp8IsTheCpusAndHoppers) {
  const std::unique_ptr<DeviceRuntime> device = open_cuda_device(0);
  const Recipe recipe = recipe_of({.compute = Compute::fp8_block});
  const RunResult cpu = train_on(recipe, 1, 1);
  std::vector<Map> maps;
  const auto before = test::hopper_products_on_card();
  const RunResult card = train_on(
      recipe, 1, 1, 1, nullptr, [&](Engine& engine) { maps = maps_of(engine.store().table()); }, device.get());
  const auto after = test::hopper_products_on_card();

  expect_agreement_in_eight_bits(recipe, cpu, card);

  if (!before) return;  // a real card does not tell
  const std::int64_t M = 64, E = recipe.model.n_routed_experts;
  std::int64_t expected = 0;
  for (const Map& m : maps)
    for (std::int64_t e = 0; e < m.E; ++e) {
      const std::int64_t rows = m.experts ? card.expert_counts.at(static_cast<std::size_t>((m.layer - 1) * E + e)) : M;
      expected += begun(rows, m.N, m.K) + begun(rows, m.K, m.N) + begun(m.N, m.K, rows);
    }
  EXPECT_EQ(*after - *before, expected);

  // The transposed copies are what the card has more, in memory that was counted.
  std::int64_t transposed = 0;
  for (const Map& m : maps) transposed += m.E * ScaledFormat::panel_bytes(m.K, m.N);
  const auto weights = [](const RunResult& r) {
    for (const auto& [name, bytes] : r.memory[0])
      if (std::string_view(name) == "weights") return bytes;
    return std::int64_t{0};
  };
  EXPECT_NEAR(static_cast<double>(weights(card) - weights(cpu)), static_cast<double>(transposed), 64);
}

/// Columns of weights for dx are derived of all experts at once, as a card's products read them.
TEST(TrainOnCard, AStepInMxfp8IsTheCpus) {
  const std::unique_ptr<DeviceRuntime> device = open_cuda_device(0);
  const Recipe recipe = recipe_of({.compute = Compute::mxfp8});
  const RunResult cpu = train_on(recipe, 1, 1), card = train_on(recipe, 1, 1, 1, nullptr, nullptr, device.get());
  expect_agreement_in_eight_bits(recipe, cpu, card);
}

}  // namespace
}  // namespace fourmi
