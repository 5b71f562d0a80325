#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/numerics/random.h"
#include "kernels/ops/routing.h"
#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"

namespace fourmi {
namespace {

using test::Buffer;
using test::on_every_stream;
using test::stream_of;

Buffer random_scores(std::int64_t M, std::int64_t E, DType dtype, std::uint64_t seed) {
  Buffer scores(dtype, {M, E});
  for (std::int64_t i = 0; i < M * E; ++i)
    scores.set(i, random_uniform(random_key(seed, "test", "scores"), static_cast<std::uint64_t>(i)));
  return scores;
}

struct Balanced {
  Buffer loss, dscores;
};
Balanced balance(const Stream& s, double coefficient, std::int64_t T, std::int64_t K, Buffer scores) {
  const std::int64_t M = scores->dim(0), E = scores->dim(1);
  Balanced out{Buffer(scores->dtype, {M / T}), Buffer(scores->dtype, {M, E})};
  balance_loss(s, coefficient, T, K, scores, out.loss, out.dscores);
  return out;
}
Balanced balance(double coefficient, std::int64_t T, std::int64_t K, Buffer scores) {
  ThreadPool pool(1);
  return balance(stream_of(pool), coefficient, T, K, scores);
}

/// DeepSeek-V3 report, eq. 17-20, of rows [first, first + T), times T; f of the K best unbiased scores.
double formula(double coefficient, std::int64_t T, std::int64_t K, const Buffer& scores, std::int64_t E,
               std::int64_t first) {
  std::vector<double> f(static_cast<std::size_t>(E)), P(f.size());
  for (std::int64_t t = first; t < first + T; ++t) {
    std::vector<std::int64_t> order(f.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](auto a, auto b) { return scores.get(t * E + a) > scores.get(t * E + b); });
    for (std::int64_t k = 0; k < K; ++k)
      f[static_cast<std::size_t>(order[static_cast<std::size_t>(k)])] += double(E) / double(K * T);
    double sum = 0;
    for (std::int64_t e = 0; e < E; ++e) sum += scores.get(t * E + e);
    for (std::int64_t e = 0; e < E; ++e) P[static_cast<std::size_t>(e)] += scores.get(t * E + e) / sum / double(T);
  }
  return double(T) * coefficient * std::inner_product(f.begin(), f.end(), P.begin(), 0.0);
}

TEST(BalanceLoss, FollowsTheReport) {
  for (DType dtype : {DType::f64, DType::f32})
    for (std::int64_t T : {1, 16, 20, 64})
      for (std::int64_t E : {4, 64, 70}) {
        constexpr std::int64_t S = 3, K = 3;
        Buffer scores = random_scores(S * T, E, dtype, 1);
        const Balanced got = balance(0.01, T, K, scores);
        for (std::int64_t i = 0; i < S; ++i) {
          const double expected = formula(0.01, T, K, scores, E, i * T);
          EXPECT_NEAR(got.loss.get(i), expected, 50 * test::unit_of(dtype) * expected);
          // A sequence's bits do not depend on its neighbours.
          Buffer one(dtype, {T, E});
          for (std::int64_t j = 0; j < T * E; ++j) one.set(j, scores.get(i * T * E + j));
          const Balanced alone = balance(0.01, T, K, one);
          EXPECT_EQ(alone.loss.get(0), got.loss.get(i));
          for (std::int64_t j = 0; j < T * E; ++j) ASSERT_EQ(alone.dscores.get(j), got.dscores.get(i * T * E + j));
        }
        on_every_stream([&](const Stream& s) {  // a card has the CPU's sums, in the CPU's order
          const Balanced again = balance(s, 0.01, T, K, scores);
          EXPECT_TRUE(again.loss == got.loss && again.dscores == got.dscores);
        });
      }
}

TEST(BalanceLoss, GradientsByFiniteDifferences) {
  for (std::int64_t T : {5, 16}) {
    constexpr std::int64_t E = 6, K = 2;
    Buffer scores = random_scores(2 * T, E, DType::f64, 2);
    const Balanced got = balance(0.7, T, K, scores);
    const auto loss = [&] {
      const Balanced now = balance(0.7, T, K, scores);
      return now.loss.get(0) + now.loss.get(1);
    };
    for (std::int64_t i = 0; i < scores.size(); ++i)
      ASSERT_NEAR(got.dscores.get(i), test::difference(scores, i, loss, 1e-6), 1e-8) << i;
  }
}

TEST(BalanceLoss, HandWorked) {
  // Perfect balance: every expert chosen equally often and equally likely gives 1, times T.
  Buffer even(DType::f64, {4, 4}, {4, 3, 2, 1, 3, 4, 1, 2, 2, 1, 4, 3, 1, 2, 3, 4});
  EXPECT_NEAR(balance(1, 4, 2, even).loss.get(0), 4.0, 1e-14);
  // All tokens on expert 2 with probability 0.7: f = (0, 0, 4, 0), P_2 = 0.7.
  Buffer one(DType::f64, {2, 4}, {0.1, 0.1, 0.7, 0.1, 1, 1, 7, 1});
  EXPECT_NEAR(balance(1, 2, 1, one).loss.get(0), 2 * 4 * 0.7, 1e-14);
  // Ties go to the lower id: f = (4, 0, 0, 0).
  Buffer tie(DType::f64, {1, 4}, {0.3, 0.3, 0.3, 0.1});
  EXPECT_NEAR(balance(1, 1, 1, tie).loss.get(0), 4 * 0.3, 1e-14);
}

// The documented order: blocks of T / 16 tokens, ascending inside, neighbours first; one chain where 16 does not divide
// T.
TEST(BalanceLoss, SumOverTokensIsATreeOverSixteenBlocks) {
  for (std::int64_t T : {48, 50}) {
    constexpr std::int64_t E = 16, K = 1;  // one expert a lane: the lane sums stay plain
    Buffer scores = random_scores(T, E, DType::f32, 3);
    const bool cut = T % 16 == 0;
    const std::int64_t block = cut ? T / 16 : T;
    std::vector<std::vector<float>> blocks(cut ? 16 : 1, std::vector<float>(E, 0.0f));
    std::vector<float> counts(E, 0.0f);
    const auto fold = [](std::vector<float> lane) {
      for (std::size_t half = 8; half > 0; half /= 2)
        for (std::size_t j = 0; j < half; ++j) lane[j] += lane[j + half];
      return lane[0];
    };
    for (std::int64_t t = 0; t < T; ++t) {
      std::vector<float> row;
      for (std::int64_t e = 0; e < E; ++e) row.push_back(scores.at<float>(t * E + e));
      const float sum = fold(row) + 1e-20f;
      for (std::size_t e = 0; e < E; ++e) blocks[static_cast<std::size_t>(t / block)][e] += row[e] / sum;
      counts[static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin())] += 1;
    }
    while (blocks.size() > 1) {
      std::vector<std::vector<float>> next(blocks.size() / 2, std::vector<float>(E));
      for (std::size_t b = 0; b < next.size(); ++b)
        for (std::size_t e = 0; e < E; ++e) next[b][e] = blocks[2 * b][e] + blocks[2 * b + 1][e];
      blocks = next;
    }
    std::vector<float> products;
    for (std::size_t e = 0; e < E; ++e)
      products.push_back(std::fma(counts[e] * static_cast<float>(double(E) / double(T)), blocks[0][e], 0.0f));
    EXPECT_EQ(balance(0.5, T, K, scores).loss.at<float>(0), 0.5f * fold(products));
  }
}

// Ranks that hold runs of blocks of each sequence exchange partials and get the bits of one rank.
TEST(BalanceLoss, PartsOverRanksAreTheWhole) {
  ThreadPool pool(2);
  const Stream s = stream_of(pool);
  constexpr std::int64_t S = 2, E = 24, K = 3;
  for (DType dtype : {DType::f64, DType::f32})
    for (std::int64_t T : {16, 80, 50}) {
      Buffer scores = random_scores(S * T, E, dtype, 4);
      const Balanced whole = balance(0.3, T, K, scores);
      const std::int64_t blocks = T % 16 == 0 ? 16 : 1, block = T / blocks;
      for (std::int64_t ranks = 1; ranks <= blocks; ranks *= 2) {
        const Buffer counts(DType::i32, {S * blocks, E}), sums(dtype, {S * blocks, E});
        const std::int64_t rows = T / ranks, held = blocks / ranks;
        for (std::int64_t i = 0; i < S * ranks; ++i)
          balance_partials(s, K, block, scores->rows(i * rows, (i + 1) * rows), counts->rows(i * held, (i + 1) * held),
                           sums->rows(i * held, (i + 1) * held));
        for (std::int64_t r = 0; r < ranks; ++r) {
          const Buffer mine(dtype, {S * rows, E}), expected(dtype, {S * rows, E}), dscores(dtype, {S * rows, E});
          for (std::int64_t i = 0; i < S * rows; ++i)
            for (std::int64_t e = 0; e < E; ++e) {
              const std::int64_t from = (i / rows * T + r * rows + i % rows) * E + e;
              mine.set(i * E + e, scores.get(from)), expected.set(i * E + e, whole.dscores.get(from));
            }
          const Buffer loss(dtype, {S});
          balance_finish(s, 0.3, T, K, counts, sums, mine, loss, dscores);
          EXPECT_TRUE(loss == whole.loss) << T << " tokens, " << ranks << " ranks";
          EXPECT_TRUE(dscores == expected) << T << " tokens, " << ranks << " ranks";
        }
      }
    }
}

// As many experts as a card takes, with ties; beside the CPU, to the bit.
TEST(BalanceLoss, ManyExperts) {
  ThreadPool pool(1);
  for (DType dtype : {DType::f64, DType::f32})
    for (std::int64_t E : {128, 130, 512})
      for (std::int64_t T : {32, 37}) {
        Buffer scores = random_scores(2 * T, E, dtype, 6);
        scores.fill([&](std::int64_t i) { return std::round(scores.get(i) * 64) / 64; });
        const Balanced got = balance(0.1, T, 8, scores), cpu = balance(Stream(pool), 0.1, T, 8, scores);
        EXPECT_TRUE(got.loss == cpu.loss && got.dscores == cpu.dscores) << E << ", " << T;
      }
}

TEST(BalanceLoss, Edges) {
  const Balanced vanished = balance(1, 2, 1, Buffer(DType::f32, {2, 3}, {0, 0, 0, 1, 2, 3}));
  EXPECT_TRUE(std::isfinite(vanished.loss.get(0)));
  for (std::int64_t i = 0; i < 6; ++i) EXPECT_TRUE(std::isfinite(vanished.dscores.get(i)));
  EXPECT_TRUE(std::isnan(balance(1, 1, 1, Buffer(DType::f32, {1, 2}, {std::nan(""), 1})).loss.get(0)));
  EXPECT_THROW(balance(1, 2, 4, Buffer(DType::f32, {2, 3})), Error);
  EXPECT_THROW(balance(1, 2, 1, Buffer(DType::f32, {3, 3})), Error);
  ThreadPool pool(1);
  const Buffer scores = random_scores(32, 3, DType::f32, 5), counts(DType::i32, {8, 3}), sums(DType::f32, {8, 3});
  EXPECT_THROW(balance_partials(stream_of(pool), 1, 3, scores, counts, sums), Error);
  EXPECT_THROW(balance_finish(stream_of(pool), 1, 32, 1, counts, sums, scores, Buffer(DType::f32, {1}), scores), Error);
}

}  // namespace
}  // namespace fourmi
