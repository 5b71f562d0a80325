// Eight bits on ranks in mode run: every axis trains as one rank in bf16 does, the same run twice is the same run, and
// arenas are what measuring told. (Bits of mode layout: matrix_test.cpp.)
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/ops/quantize.h"
#include "tests/layouts/mixture.h"

namespace fourmi {
namespace {

const Mixture axes[] = {
    {.ranks = 2, .tensor = 2}, {.ranks = 2, .context = 2},       {.ranks = 2, .pipeline = 2},
    {.ranks = 2, .expert = 2}, {.ranks = 2, .expert_tensor = 2}, {.ranks = 2, .zero = 3, .recompute = Recompute::full},
};

class EightOfRun : public testing::TestWithParam<Mixture> {};
INSTANTIATE_TEST_SUITE_P(Axes, EightOfRun, testing::ValuesIn(axes), [](const auto& m) { return name_of(m.param); });

TEST_P(EightOfRun, TrainsAsOneRankInBf16) {
  const Mixture& m = GetParam();
  constexpr int steps = 2;
  for (const bool dense : {false, true}) {
    if (dense && m.tensor * m.zero == 1) continue;
    const Recipe model = dense ? dense_in_blocks(Compute::bf16, Reproducibility::run, m)
                               : sparse_in_blocks(Compute::bf16, Reproducibility::run, m);
    const RunResult one = train_on(model, 1, steps);
    for (const auto& [name, precision] : precisions_of_eight) {
      const Recipe recipe = m.of(with_precision(model, precision));
      const RunResult ranks = train_on(recipe, m.ranks, steps);
      // The first step of AdamW moves each weight by the sign of its gradient, small or not.
      for (std::size_t s = 0; s < steps; ++s)
        EXPECT_NEAR(ranks.steps[s].loss, one.steps[s].loss, (s == 0 ? 0.003 : 0.02) * one.steps[s].loss)
            << name << ", step " << s;
      EXPECT_NEAR(ranks.steps[0].grad_norm, one.steps[0].grad_norm, 0.05 * one.steps[0].grad_norm) << name;
      EXPECT_EQ(ranks.memory[0], Engine::measure(recipe, m.ranks)) << name;
      // Of the others matrix_test.cpp shows more.
      if (!has_mode_layout(precision)) expect_equal_bits(ranks, train_on(recipe, m.ranks, steps), name);
    }
  }
}

using Bytes = std::vector<std::byte>;

Bytes bytes_of(const Tensor& t) {
  const auto* data = static_cast<const std::byte*>(t.data);
  return {data, data + t.bytes()};
}

/// What products read of a weight: elements with their scales, and where they are others those of columns.
std::vector<Bytes> copies_of(const Tensor& matrix, const ColumnScaled& columns) {
  std::vector<Bytes> copies{bytes_of(matrix)};
  if (columns.elements_MK) copies.insert(copies.end(), {bytes_of(columns.elements_MK), bytes_of(columns.scales_GK)});
  return copies;
}

/// The same of a weight as all ranks' owners have it, quantised in one piece: of the part that a rank holds.
std::vector<Bytes> copies_of(const Parameter& p, const std::vector<double>& whole, const ModelTypes& types) {
  const std::int64_t N = p.local[0], K = p.local[1];
  std::vector<bfloat16> part;
  for (std::int64_t r = 0; r < N; ++r)
    for (std::int64_t k = 0; k < K; ++k) {
      const std::int64_t i = (p.first_row + r) * p.shape[1] + p.first_column + k;
      part.push_back(bfloat16(static_cast<float>(whole[static_cast<std::size_t>(i)])));
    }
  ThreadPool pool(1);
  const Stream stream(pool);
  const Tensor weight(part.data(), DType::bf16, {N, K});
  Bytes memory(static_cast<std::size_t>(fourmi::bytes_of(types.matrix, {N, K})));
  const Tensor q(memory.data(), types.matrix, {N, K});
  if (types.weight_over == ScaleOver::tensor) {
    float largest = 0;
    const Tensor amax(&largest, DType::f32, {1});
    const std::array<std::int32_t, 2> all{0, static_cast<std::int32_t>(N)};
    largest_magnitudes(stream, weight, all, amax);
    quantize_by(stream, weight, q, types.weight_scaling, all, amax);
  } else {
    quantize(stream, weight, q, types.weight_scaling);
  }
  if (types.matrix != DType::mxe4m3_rows) return copies_of(q, {});
  const std::int64_t groups = ScaledFormat::num_blocks(N, ScaledFormat::mx_block);
  std::vector<std::uint8_t> elements(static_cast<std::size_t>(N * K));
  std::vector<float> scales(static_cast<std::size_t>(groups * K));
  const ColumnScaled columns{Tensor(elements.data(), DType::u8, {N, K}), Tensor(scales.data(), DType::f32, {groups, K}),
                             ScaledFormat::mx_block};
  regroup_columns(stream, q, columns, ColumnScale::power_of_two);
  return copies_of(q, columns);
}

/// Owners quantise their rows: every rank has what quantising the whole weight gives.
TEST(Eight, CopiesAreThoseOfTheOwnersRows) {
  const Mixture mixtures[] = {
      {.ranks = 1}, {.ranks = 3}, {.ranks = 4, .tensor = 2}, {.ranks = 4, .expert = 2, .zero = 2}};
  for (const Mixture& m : mixtures)
    for (const auto& [name, precision] : precisions_of_eight) {
      Recipe recipe = m.of(with_precision(sparse_in_blocks(Compute::bf16, Reproducibility::run, m), precision));
      if (m.ranks == 3) recipe.data.global_batch_size = 3 * recipe.data.micro_batch_size;
      // By the part's place, for ranks of the tensor axis have other parts.
      std::vector<std::pair<Parameter, std::vector<Bytes>>> found;
      ModelTypes types;
      const RunResult run = train_on(recipe, m.ranks, 1, 1, nullptr, [&](Engine& engine) {
        const ParameterStore& store = engine.store();
        types = store.types();
        for (const Parameter& p : store.table().all())
          if (p.is_map) {
            const Slot slot = store.slot(p.name);
            found.emplace_back(p, copies_of(store.matrix(slot), store.matrix_columns(slot)));
          }
      });
      EXPECT_FALSE(found.empty());
      for (const auto& [p, copies] : found)
        EXPECT_EQ(copies, copies_of(p, run.weights.at(p.name), types)) << name << ", " << name_of(m) << ": " << p.name;
    }
}

}  // namespace
}  // namespace fourmi
