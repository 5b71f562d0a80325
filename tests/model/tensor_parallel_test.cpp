// The tensor axis changes nothing but where the numbers are: loss and gradients of one rank, from 2 and 4.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
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
      SmallModel m(section, Compute::fp64, Reproducibility::run, sizes, 7, Model::Use::training, {.tensor = &group});
      if (recompute != Recompute::none)
        m.model.allocate(m.sizes, Model::Use::training, m.arena, recompute, {.tensor = &group});
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

/// Mode layout: what a rank holds of every exact gradient, added up over ranks; and the bits of every row's loss.
struct Bits {
  std::vector<std::uint64_t> losses;
  std::map<std::string, std::vector<int128>> gradients;
  bool operator==(const Bits&) const = default;
};

void add_bits(const Tensor& losses, std::vector<std::uint64_t>& bits) {
  for (std::int64_t i = 0; i < losses.num_elements(); ++i)
    bits.push_back(std::bit_cast<std::uint32_t>(losses.as<float>()[i]));
}

Bits bits_of(const ModelSection& section, Compute compute, int size, const BatchSizes& sizes) {
  const LossWeights weights{.mtp = section.num_nextn_predict_layers > 0 ? 0.3 : 0.0,
                            .balance = section.n_routed_experts > 0 ? 0.05 : 0.0};
  Bits all;
  std::mutex mutex;
  auto groups = make_thread_groups("tensor", size);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      Group& group = *groups[static_cast<std::size_t>(rank)];
      SmallModel m(section, compute, Reproducibility::layout, sizes, 7, Model::Use::training, {.tensor = &group});
      SmallBatch batch(sizes, section.vocab_size);
      const BatchLosses& losses = m.model.forward_backward(m.stream, batch.tensors(), weights, m.options);
      const std::lock_guard lock(mutex);
      std::vector<std::uint64_t> rows;
      add_bits(losses.loss_M, rows);
      if (losses.loss_mtp_M) add_bits(losses.loss_mtp_M, rows);
      if (all.losses.empty()) all.losses = rows;
      EXPECT_EQ(all.losses, rows) << "every rank finds the same losses";
      EXPECT_EQ(m.refused, 0);
      for (const Parameter& p : m.table.all()) {
        if (p.set == ParameterSet::router_bias) continue;
        const std::int64_t columns = p.shape.rank > 1 ? p.shape[1] : 1, mine = p.local.rank > 1 ? p.local[1] : 1;
        std::vector<int128>& sum = all.gradients[p.name];
        sum.resize(static_cast<std::size_t>(p.shape.num_elements()));
        const int128* g = m.store.gradient(m.store.slot(p.name)).as<int128>();
        for (std::int64_t r = 0; r < p.local[0]; ++r)
          for (std::int64_t c = 0; c < mine; ++c)
            sum[static_cast<std::size_t>((p.first_row + r) * columns + p.first_column + c)] += g[r * mine + c];
      }
    });
  for (std::thread& t : threads) t.join();
  return all;
}

void expect_equal_bits(const ModelSection& section, int size, const BatchSizes& sizes = {64, 32}) {
  for (const Compute compute : {Compute::fp32, Compute::bf16}) {
    const Bits one = bits_of(section, compute, 1, sizes), many = bits_of(section, compute, size, sizes);
    EXPECT_EQ(one.losses, many.losses);
    for (const auto& [name, expected] : one.gradients) {
      EXPECT_TRUE(expected == many.gradients.at(name)) << name;
      EXPECT_TRUE(std::any_of(expected.begin(), expected.end(), [](int128 v) { return v != 0; })) << name;
    }
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

TEST_P(TensorParallel, BitsOfLatentAttention) {
  for (const bool query_latent : {true, false}) {
    ModelSection m = deepseek(query_latent);
    m.intermediate_size = 64, m.moe_intermediate_size = 64;
    expect_equal_bits(m, GetParam());
  }
}
TEST_P(TensorParallel, BitsOfGroupedQueryAttention) {
  for (const char* type : {"qwen2", "qwen3"}) {
    ModelSection m = qwen(type, type == std::string("qwen3"));
    m.intermediate_size = 64;
    expect_equal_bits(m, GetParam());
  }
}
/// Ranks that share the vocabulary take several partials of its gradient at once, and still several times.
TEST_P(TensorParallel, BitsOfAHeadInSeveralChunks) {
  ModelSection m = qwen("qwen3", false);
  m.intermediate_size = 64, m.vocab_size = 4090, m.num_hidden_layers = 1;
  const BatchSizes sizes{2304, 64};
  BatchSizes shared = sizes;
  shared.tensor = GetParam();
  const std::int64_t partial = Head::partial_rows(sizes), chunk = Head::chunk_rows(shared, 4096 / GetParam());
  EXPECT_EQ(Head::chunk_rows(sizes, 4096), partial);
  EXPECT_GT(chunk, partial);
  EXPECT_LT(2 * chunk, sizes.rows);
  EXPECT_EQ(chunk % partial, 0);
  expect_equal_bits(m, GetParam(), sizes);
}

}  // namespace
}  // namespace fourmi
