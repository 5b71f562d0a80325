// The tensor axis changes nothing but where the numbers are: loss and gradients of one rank, from 2 and 4.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <mutex>
#include <thread>

#include "tests/model/small_model.h"

namespace fourmi {
namespace {

ModelSection deepseek(bool query_latent) {
  ModelSection m = small_section(query_latent);
  m.num_attention_heads = m.num_key_value_heads = 4;
  m.intermediate_size = 16, m.moe_intermediate_size = 8;
  m.vocab_size = 21;  // the last rank holds fewer rows than the others
  return m;
}

ModelSection qwen(const char* type, bool tied) {
  ModelSection m;
  m.model_type = type;
  m.vocab_size = 24, m.hidden_size = 16, m.num_hidden_layers = 2, m.intermediate_size = 16;
  m.num_attention_heads = 8, m.num_key_value_heads = 4, m.head_dim = 4;
  m.tie_word_embeddings = tied;
  m.max_position_embeddings = 64, m.initializer_range = 0.3;
  return m;
}

struct Whole {
  double loss = 0;
  std::map<std::string, std::vector<double>> gradients;  // every parameter, global
};

/// Adds what one rank holds of every gradient to its place in the whole.
void add_gradients(const SmallModel& m, int rank, Whole& whole) {
  for (const Parameter& p : m.table.all()) {
    if (p.set == ParameterSet::router_bias) continue;
    const std::int64_t columns = p.shape.rank > 1 ? p.shape[1] : 1, mine = p.local.rank > 1 ? p.local[1] : 1;
    std::vector<double>& all = whole.gradients[p.name];
    all.resize(static_cast<std::size_t>(p.shape.num_elements()));
    const double* g = m.store.gradient(m.store.slot(p.name)).as<double>();
    for (std::int64_t r = 0; r < p.local[0]; ++r)
      for (std::int64_t c = 0; c < mine; ++c)
        all[static_cast<std::size_t>((p.first_row + r) * columns + p.first_column + c)] += g[r * mine + c];
    // Experts are not cut here: every rank's tokens go to its own copies.
    EXPECT_TRUE(p.copies != Copies::tensor_peers || p.local.num_elements() * 8 <= p.shape.num_elements() * 7 ||
                rank < 0)
        << p.name;
  }
}

Whole run(const ModelSection& section, int size, Recompute recompute = Recompute::none) {
  const BatchSizes sizes{32, 16};
  const LossWeights weights{.mtp = section.num_nextn_predict_layers > 0 ? 0.3 : 0.0,
                            .balance = section.n_routed_experts > 0 ? 0.05 : 0.0};
  Whole whole;
  std::mutex mutex;
  auto groups = make_thread_groups("tensor", size);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      Group& group = *groups[static_cast<std::size_t>(rank)];
      SmallModel m(section, Compute::fp64, Reproducibility::run, sizes, 7, Model::Use::training, &group);
      if (recompute != Recompute::none) m.model.allocate(m.sizes, Model::Use::training, m.arena, recompute, &group);
      SmallBatch batch(sizes, section.vocab_size);
      const BatchLosses& losses = m.model.forward_backward(m.stream, batch.tensors(), weights, m.options);
      const double of_rows = total_loss<double>(losses, {weights.mtp, 0}), loss = total_loss<double>(losses, weights);
      const std::lock_guard lock(mutex);
      // Every rank of the axis finds the losses of all rows, and the balance losses of its own sequences.
      whole.loss += of_rows / size + (loss - of_rows);
      add_gradients(m, size > 1 ? rank : -1, whole);
    });
  for (std::thread& t : threads) t.join();
  return whole;
}

void expect_same(const Whole& one, const Whole& many) {
  EXPECT_NEAR(many.loss, one.loss, 1e-9 * std::abs(one.loss));
  ASSERT_EQ(one.gradients.size(), many.gradients.size());
  for (const auto& [name, expected] : one.gradients) {
    const std::vector<double>& found = many.gradients.at(name);
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      error += (expected[i] - found[i]) * (expected[i] - found[i]);
      norm += expected[i] * expected[i];
    }
    EXPECT_GT(norm, 0) << name;
    EXPECT_LE(std::sqrt(error), 1e-9 * std::sqrt(norm)) << name;
  }
}

class TensorParallel : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, TensorParallel, ::testing::Values(2, 4));

TEST_P(TensorParallel, LatentAttentionExpertsAndMtp) {
  const ModelSection m = deepseek(true);
  const Whole one = run(m, 1);
  for (const Recompute r : {Recompute::none, Recompute::selective, Recompute::full})
    expect_same(one, run(m, GetParam(), r));
}
TEST_P(TensorParallel, LatentAttentionWithoutQueryLatent) {
  expect_same(run(deepseek(false), 1), run(deepseek(false), GetParam()));
}
TEST_P(TensorParallel, GroupedQueryWithBiases) {
  expect_same(run(qwen("qwen2", false), 1), run(qwen("qwen2", false), GetParam()));
}
TEST_P(TensorParallel, HeadNormsAndTiedEmbeddings) {
  expect_same(run(qwen("qwen3", true), 1), run(qwen("qwen3", true), GetParam()));
}

}  // namespace
}  // namespace fourmi
