// Layers one by one: the gradient of a block's and a head's input, what may and may not change a row's bits.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/model/small_model.h"

namespace fourmi {
namespace {

Context context_of(SmallModel& m, const BatchTensors& b, Context c) {
  c.stream = &m.stream;
  c.parameters = &m.store;
  c.sizes = m.sizes;
  c.positions = b.positions_M, c.key_begin = b.key_begin_M, c.key_end = b.key_end_M;
  c.rotary_table = m.model.rotary_table();
  return c;
}

void fill(const Tensor& x, std::uint64_t seed, double scale) {
  fill_normal(x, random_key(seed, "test", "fill"), 0, scale);
}

class BlockInput : public testing::TestWithParam<int> {};

TEST_P(BlockInput, GradientAgainstFiniteDifferences) {
  const BatchSizes sizes{12, 6};
  const ModelSection section = small_section();
  SmallModel m(section, Compute::fp64, Reproducibility::run, sizes);
  SmallBatch batch(sizes, section.vocab_size);
  Context c = context_of(m, batch.tensors(), m.options);
  const Block block(section, m.store, GetParam());
  Block::Saved saved;
  Block::Gradients gradients;
  allocate_fields(saved, block.sizes(sizes, m.types), m.arena, "saved.");
  allocate_fields(gradients, block.sizes(sizes, m.types), m.arena, "gradients.");
  const Shape shape{sizes.rows, section.hidden_size};
  const Tensor x = m.arena.allocate(shape, DType::f64, "x"), y = m.arena.allocate(shape, DType::f64, "y");
  const Tensor dy = m.arena.allocate(shape, DType::f64, "dy"), dx = m.arena.allocate(shape, DType::f64, "dx");
  fill(x, 1, 1.0);
  fill(dy, 2, 1.0);
  auto value = [&] {
    block.forward(c, x, saved, y, {});
    double sum = 0;
    for (std::int64_t i = 0; i < y.num_elements(); ++i) sum += y.as<double>()[i] * dy.as<double>()[i];
    return sum;
  };
  value();
  block.backward_input(c, x, saved, dy, gradients, dx);
  block.backward_weight(c, x, saved, dy, gradients);
  for (std::int64_t i = 0; i < x.num_elements(); ++i) {
    double& xi = x.as<double>()[i];
    const double keep = xi, h = 1e-6;
    xi = keep + h;
    const double up = value();
    xi = keep - h;
    const double down = value();
    xi = keep;
    EXPECT_NEAR(dx.as<double>()[i], (up - down) / (2 * h), 2e-7 * (1 + std::abs(dx.as<double>()[i])))
        << "element " << i;
  }
}
INSTANTIATE_TEST_SUITE_P(DenseAndMoe, BlockInput, testing::Values(0, 1));

TEST(Model, ARowDoesNotDependOnItsNeighbours) {
  const ModelSection section = small_section();
  for (Compute compute : {Compute::fp32, Compute::bf16}) {
    SmallModel both(section, compute, Reproducibility::run, {32, 16}),
        one(section, compute, Reproducibility::run, {16, 16});
    SmallBatch two_sequences({32, 16}, section.vocab_size, 3, 1), second({16, 16}, section.vocab_size, 3, 2);
    const BatchLosses a = both.model.evaluate(both.stream, two_sequences.tensors(), both.options);
    const BatchLosses b = one.model.evaluate(one.stream, second.tensors(), one.options);
    EXPECT_EQ(std::memcmp(a.loss_M.rows(16, 32).data, b.loss_M.data, static_cast<std::size_t>(b.loss_M.bytes())), 0);
    EXPECT_EQ(
        std::memcmp(a.loss_mtp_M.rows(16, 32).data, b.loss_mtp_M.data, static_cast<std::size_t>(b.loss_mtp_M.bytes())),
        0);
  }
}

TEST(Model, EvaluationReusesMemoryAndKeepsBits) {
  const ModelSection section = small_section();
  SmallModel training(section, Compute::bf16, Reproducibility::run, {16, 8});
  SmallModel evaluation(section, Compute::bf16, Reproducibility::run, {16, 8}, 7, Model::Use::evaluation);
  SmallBatch batch({16, 8}, section.vocab_size);
  const BatchLosses a =
      training.model.forward_backward(training.stream, batch.tensors(), {0.3, 0.05}, training.options);
  const BatchLosses b = evaluation.model.evaluate(evaluation.stream, batch.tensors(), evaluation.options);
  EXPECT_EQ(std::memcmp(a.loss_M.data, b.loss_M.data, static_cast<std::size_t>(b.loss_M.bytes())), 0);
  EXPECT_EQ(std::memcmp(a.loss_mtp_M.data, b.loss_mtp_M.data, static_cast<std::size_t>(b.loss_mtp_M.bytes())), 0);
  EXPECT_LT(evaluation.arena.peak(), training.arena.peak());
}

TEST(Model, EveryInstructionSetAndThreadCountGivesEqualBits) {
  const ModelSection section = small_section();
  for (Compute compute : {Compute::fp32, Compute::bf16})
    for (Reproducibility mode : {Reproducibility::run, Reproducibility::layout}) {
      const BatchSizes sizes{32, 16};
      SmallBatch batch(sizes, section.vocab_size);
      std::vector<std::byte> reference;
      for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512})
        for (int threads : {1, 3}) {
          if (!has_isa(isa)) continue;
          SmallModel m(section, compute, mode, sizes);
          ThreadPool pool(threads);
          m.model.forward_backward(Stream(pool, isa), batch.tensors(), {0.3, 0.05}, m.options);
          EXPECT_EQ(m.refused, 0);
          std::vector<std::byte> bits;
          for (ParameterSet set : {ParameterSet::matrices, ParameterSet::full_precision}) {
            const auto* p = static_cast<const std::byte*>(m.store.gradients(set).data);
            bits.insert(bits.end(), p, p + m.store.gradients(set).bytes());
          }
          if (reference.empty()) reference = bits;
          EXPECT_TRUE(bits == reference) << name_of(isa) << " with " << threads << " threads";
        }
    }
}

TEST(Model, CountsChoicesOfRealTokensOnce) {
  const ModelSection section = small_section();
  SmallModel m(section, Compute::fp32, Reproducibility::run, {16, 8});
  SmallBatch batch({16, 8}, section.vocab_size);
  m.model.forward_backward(m.stream, batch.tensors(), {0.3, 0}, m.options);
  const Tensor& counts = m.model.expert_counts();
  ASSERT_EQ(counts.dim(0), 2);  // one MoE block and the MTP layer's
  for (std::int64_t l = 0; l < 2; ++l) {
    std::int64_t sum = 0;
    for (std::int64_t e = 0; e < 4; ++e) sum += counts.as<std::int64_t>()[l * 4 + e];
    EXPECT_EQ(sum, 16 * section.num_experts_per_tok);
  }
}

TEST(Model, ZeroRoutedExpertsLeaveTheSharedOne) {
  const ModelSection section = small_section();
  SmallModel m(section, Compute::fp32, Reproducibility::run, {16, 8}, 7, Model::Use::evaluation);
  SmallBatch batch({16, 8}, section.vocab_size);
  auto loss = [&] {
    const BatchLosses l = m.model.evaluate(m.stream, batch.tensors(), m.options);
    return total_loss<float>({l.loss_M, {}, {}}, {});
  };
  const double with = loss();
  m.model.set_zero_routed(true);
  const double without = loss();
  EXPECT_TRUE(std::isfinite(without));
  EXPECT_NE(with, without);
  m.model.set_zero_routed(false);
  EXPECT_EQ(loss(), with);
}

}  // namespace
}  // namespace fourmi
