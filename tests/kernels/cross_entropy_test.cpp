#include "kernels/ops/cross_entropy.h"

#include <cmath>
#include <limits>

#include "kernels/numerics/math.h"
#include "kernels/ops/tree_sum.h"
#include "tests/device/every_stream.h"
#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"

namespace fourmi {
namespace {

using test::Buffer;
using test::on_card;
using test::on_streams;
using test::stream_of;

constexpr double infinity = std::numeric_limits<double>::infinity();

struct Result {
  Buffer max, sum, target_logit, loss, dlogits;
  Result(std::int64_t C, std::int64_t V, DType dtype, DType gradient)
      : max(dtype, {C}), sum(dtype, {C}), target_logit(dtype, {C}), loss(dtype, {C}), dlogits(gradient, {C, V}) {}
};

Result run(const Stream& s, Buffer logits, Buffer targets, std::int64_t C, std::int64_t V, DType gradient,
           double weight = 1) {
  Result r(C, V, logits->dtype, gradient);
  softmax_max(s, logits, r.max);
  softmax_sum(s, logits, r.max, targets, 0, r.sum, r.target_logit);
  cross_entropy_finish(s, weight, logits, r.max, r.sum, r.target_logit, targets, 0, r.loss, r.dlogits);
  return r;
}

/// The last column, those around the border of what is formed at once (512), and rows without a target.
Buffer some_targets(std::int64_t C, std::int64_t V) {
  Buffer targets(DType::i32, {C});
  for (std::int64_t i = 0; i < C; ++i) targets.set(i, i % 5 == 4 ? -1 : double((i == 0 ? V - 1 : 510 + i) % V));
  return targets;
}

/// loss and gradient of a row in long double.
void expect_row(const Buffer& logits, const Buffer& targets, const Result& r, std::int64_t row, std::int64_t V,
                double weight) {
  const DType dtype = logits->dtype;
  long double sum = 0;
  for (std::int64_t v = 0; v < V; ++v) sum += std::exp(static_cast<long double>(logits.get(row * V + v)));
  const std::int64_t target = targets.id(row);
  const auto expected_loss = target < 0 ? 0.0L : std::log(sum) - logits.get(row * V + target);
  EXPECT_NEAR(r.loss.get(row), double(expected_loss),
              (10 + std::fabs(double(expected_loss))) * 2 * test::unit_of(dtype));
  for (std::int64_t v = 0; v < V; ++v) {
    const auto p = std::exp(static_cast<long double>(logits.get(row * V + v))) / sum;
    const double expected = target < 0 ? 0.0 : weight * double(p - (v == target));
    // Where the target is nearly certain, p - 1 has lost what 1 - p would have kept: an absolute error.
    const double tolerance =
        std::fabs(weight) * 40 * test::unit_of(dtype) + std::fabs(expected) * test::unit_of(r.dlogits->dtype);
    ASSERT_NEAR(r.dlogits.get(row * V + v), expected, tolerance) << row << ", " << v;
  }
}

/// A card sums a row in another order than the CPU; all else is equal to the bit, given the sums.
void expect_cpu(const Result& r, Buffer logits, Buffer targets, std::int64_t C, std::int64_t V, double weight) {
  ThreadPool pool(1);
  const Stream cpu(pool);
  Result c(C, V, logits->dtype, r.dlogits->dtype);
  softmax_max(cpu, logits, c.max);
  softmax_sum(cpu, logits, c.max, targets, 0, c.sum, c.target_logit);
  EXPECT_TRUE(r.max == c.max && r.target_logit == c.target_logit);
  for (std::int64_t i = 0; i < C; ++i)
    EXPECT_NEAR(r.sum.get(i), c.sum.get(i), 40 * test::unit_of(logits->dtype) * c.sum.get(i)) << i;
  cross_entropy_finish(cpu, weight, logits, r.max, r.sum, r.target_logit, targets, 0, c.loss, c.dlogits);
  EXPECT_TRUE(r.loss == c.loss && r.dlogits == c.dlogits);
}

TEST(CrossEntropy, AgreesWithTheFormula) {
  for (DType dtype : {DType::f64, DType::f32})
    for (DType gradient : {DType::f64, DType::f32, DType::bf16})
      for (std::int64_t V : {1, 5, 16, 33, 320, 1100}) {
        constexpr std::int64_t C = 9;
        Buffer logits = test::noisy(dtype, {C, V}, 1, 3.0), targets = some_targets(C, V);
        ThreadPool pool(1);
        const Result first = run(stream_of(pool), logits, targets, C, V, gradient, 0.3);
        for (std::int64_t row = 0; row < C; ++row) expect_row(logits, targets, first, row, V, 0.3);
        if (on_card()) {
          expect_cpu(first, logits, targets, C, V, 0.3);
          continue;
        }
        test::on_every_stream([&](const Stream& s) {
          const Result r = run(s, logits, targets, C, V, gradient, 0.3);
          EXPECT_TRUE(r.max == first.max && r.sum == first.sum && r.target_logit == first.target_logit);
          EXPECT_TRUE(r.loss == first.loss && r.dlogits == first.dlogits);
        });
      }
}

// Ranks with whole leaves of the vocabulary exchange maxima and partial sums and get the bits of one rank.
TEST(CrossEntropy, LeavesOfTheVocabularyOverRanksAreTheWhole) {
  for (DType dtype : {DType::f64, DType::f32})
    for (std::int64_t V : {8, 40, 1096}) {
      constexpr std::int64_t C = 7, leaves = 8;
      const std::int64_t vocabulary = V - 3;  // the last leaf has padding, of which nothing may be seen
      Buffer logits = test::noisy(dtype, {C, V}, 6, 3.0), targets = some_targets(C, vocabulary);
      for (std::int64_t i = 0; i < C; ++i)
        for (std::int64_t v = vocabulary; v < V; ++v) logits.set(i * V + v, i == 0 ? std::nan("") : 100.0);
      on_streams([&](const Stream& s) {
        Buffer all = logits, partials(dtype, {leaves, C});
        Result whole(C, V, dtype, dtype);
        mask_padding(s, 0, vocabulary, all);
        softmax_max(s, all, whole.max);
        softmax_sum(s, all, whole.max, targets, 0, partials, whole.target_logit, leaves);
        tree_sum(s, partials, whole.sum);
        cross_entropy_finish(s, 0.3, all, whole.max, whole.sum, whole.target_logit, targets, 0, whole.loss,
                             whole.dlogits);
        Buffer narrow(dtype, {C, vocabulary});  // without padding, as one row: the mathematics
        for (std::int64_t i = 0; i < C * vocabulary; ++i)
          narrow.set(i, logits.get(i / vocabulary * V + i % vocabulary));
        const Result plain = run(s, narrow, targets, C, vocabulary, dtype, 0.3);
        for (std::int64_t i = 0; i < C; ++i) {
          EXPECT_NEAR(whole.loss.get(i), plain.loss.get(i), 40 * test::unit_of(dtype));
          for (std::int64_t v = 0; v < V; ++v)
            ASSERT_NEAR(whole.dlogits.get(i * V + v), v < vocabulary ? plain.dlogits.get(i * vocabulary + v) : 0.0,
                        v < vocabulary ? 40 * test::unit_of(dtype) : 0.0);
        }
        for (std::int64_t ranks : {2, 4, 8}) {
          const std::int64_t n = V / ranks, held = leaves / ranks;
          Buffer exchanged(dtype, {leaves, C}), targets_here(dtype, {ranks, C}), sum(dtype, {C}), target(dtype, {C});
          std::vector<Buffer> shards;
          for (std::int64_t r = 0; r < ranks; ++r) {
            Buffer shard(dtype, {C, n}), max(dtype, {C});
            for (std::int64_t i = 0; i < C * n; ++i) shard.set(i, logits.get(i / n * V + r * n + i % n));
            mask_padding(s, r * n, vocabulary, shard);
            softmax_max(s, shard, max);
            for (std::int64_t i = 0; i < C; ++i) EXPECT_LE(max.get(i), whole.max.get(i));
            softmax_sum(s, shard, whole.max, targets, r * n, exchanged->rows(r * held, (r + 1) * held),
                        targets_here->rows(r, r + 1), held);
            shards.push_back(shard);
          }
          EXPECT_TRUE(exchanged == partials) << V << ", " << ranks << " ranks";
          tree_sum(s, exchanged, sum);
          tree_sum(s, targets_here, target);
          EXPECT_TRUE(sum == whole.sum && target == whole.target_logit) << V << ", " << ranks << " ranks";
          for (std::int64_t r = 0; r < ranks; ++r) {
            Buffer loss(dtype, {C}), d(dtype, {C, n});
            cross_entropy_finish(s, 0.3, shards[static_cast<std::size_t>(r)], whole.max, sum, target, targets, r * n,
                                 loss, d);
            EXPECT_TRUE(loss == whole.loss);
            for (std::int64_t i = 0; i < C * n; ++i)
              ASSERT_EQ(d.get(i), whole.dlogits.get(i / n * V + r * n + i % n)) << V << ", " << ranks << " ranks";
          }
        }
      });
    }
  ThreadPool pool(1);
  const Buffer logits(DType::f32, {2, 6}), max(DType::f32, {2}), targets(DType::i32, {2}), sums(DType::f32, {4, 2});
  EXPECT_THROW(softmax_sum(stream_of(pool), logits, max, targets, 0, sums, max, 4), Error);
  EXPECT_THROW(softmax_sum(stream_of(pool), logits, max, targets, 0, sums, max, 2), Error);
}

TEST(CrossEntropy, GradientsByFiniteDifferences) {
  constexpr std::int64_t C = 4, V = 19;
  Buffer logits = test::noisy(DType::f64, {C, V}, 2), targets(DType::i32, {C}, {0, 18, -1, 7});
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  const double weight = 1.7;
  const Result r = run(s, logits, targets, C, V, DType::f64, weight);
  const auto loss = [&] {
    const Result now = run(s, logits, targets, C, V, DType::f64, weight);
    return now.loss.get(0) + now.loss.get(1) + now.loss.get(2) + now.loss.get(3);
  };
  // The weight scales the gradient and not the loss.
  for (std::int64_t i = 0; i < C * V; ++i)
    EXPECT_NEAR(r.dlogits.get(i), weight * test::difference(logits, i, loss), 1e-9);
}

// The documented order of the sum, once more in scalar code.
TEST(CrossEntropy, SumIsALaneSum) {
  if (on_card()) GTEST_SKIP() << "the CPU's order";
  constexpr std::int64_t V = 77;
  Buffer logits = test::noisy(DType::f32, {1, V}, 3, 5.0), targets(DType::i32, {1}, {1});
  ThreadPool pool(1);
  const Result r = run(Stream(pool), logits, targets, 1, V, DType::f32);
  const auto max = r.max.at<float>(0);
  float lane[16] = {};
  for (std::int64_t i = 0; i < V; ++i) lane[i % 16] += fourmi::exp(logits.at<float>(i) - max);
  for (int half = 8; half > 0; half /= 2)
    for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
  EXPECT_EQ(r.sum.at<float>(0), lane[0]);
  EXPECT_EQ(r.loss.at<float>(0), fourmi::log(lane[0]) + (max - logits.at<float>(1)));
}

TEST(CrossEntropy, VocabularyCutOverRanks) {
  constexpr std::int64_t C = 6, V = 60, part = 20;
  Buffer logits = test::noisy(DType::f64, {C, V}, 4, 2.0), targets(DType::i32, {C}, {0, 19, 20, 59, 40, -1});
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  const Result whole = run(s, logits, targets, C, V, DType::f64);
  std::vector<Buffer> held;
  for (std::int64_t p = 0; p < 3; ++p) {
    held.emplace_back(DType::f64, Shape{C, part});
    for (std::int64_t i = 0; i < C * part; ++i) held.back().set(i, logits.get(i / part * V + p * part + i % part));
  }
  Buffer max(DType::f64, {C}, std::vector<double>(C, -infinity)), sum(DType::f64, {C}, std::vector<double>(C, 0)),
      target = sum;
  for (auto& x : held) {
    Buffer m(DType::f64, {C});
    softmax_max(s, x, m);
    for (std::int64_t i = 0; i < C; ++i) max.set(i, std::max(max.get(i), m.get(i)));
  }
  EXPECT_TRUE(max == whole.max);
  for (std::int64_t p = 0; p < 3; ++p) {
    Buffer u(DType::f64, {C}), t(DType::f64, {C});
    softmax_sum(s, held[static_cast<std::size_t>(p)], max, targets, p * part, u, t);
    for (std::int64_t i = 0; i < C; ++i) {
      sum.set(i, sum.get(i) + u.get(i));
      target.set(i, target.get(i) + t.get(i));
      const bool held_here = targets.id(i) >= 0 && targets.id(i) / part == p;
      EXPECT_EQ(t.get(i), held_here ? whole.target_logit.get(i) : 0.0);
    }
  }
  for (std::int64_t p = 0; p < 3; ++p) {
    Buffer loss(DType::f64, {C}), d(DType::f64, {C, part});
    cross_entropy_finish(s, 1, held[static_cast<std::size_t>(p)], max, sum, target, targets, p * part, loss, d);
    for (std::int64_t i = 0; i < C; ++i) EXPECT_NEAR(loss.get(i), whole.loss.get(i), 1e-14);
    for (std::int64_t i = 0; i < C * part; ++i)
      EXPECT_NEAR(d.get(i), whole.dlogits.get(i / part * V + p * part + i % part), 1e-14);
  }
}

// Long rows, with and without whole vectors, at any address (behind as many values as there are rows).
TEST(CrossEntropy, LongRows) {
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  for (DType dtype : {DType::f64, DType::f32})
    for (std::int64_t V : {2048, 4099, 8196, 20012}) {
      constexpr std::int64_t C = 3;
      Buffer targets(DType::i32, {C}, {0, -1, static_cast<double>(V - 1)});
      Buffer memory = test::noisy(dtype, {C + C * V}, 7, 3.0), logits(dtype, {C, V});
      logits.fill([&](std::int64_t i) { return memory.get(C + i); });
      for (DType gradient : {dtype, DType::bf16}) {
        Result r = run(s, logits, targets, C, V, gradient, 0.3);
        for (std::int64_t row = 0; row < C; ++row) expect_row(logits, targets, r, row, V, 0.3);
        if (on_card()) expect_cpu(r, logits, targets, C, V, 0.3);
        Result behind(C, V, dtype, gradient);
        const Tensor max = memory->rows(0, C), moved = memory->rows(C, C + C * V).view({C, V});
        softmax_max(s, moved, max);
        softmax_sum(s, moved, max, targets, 0, behind.sum, behind.target_logit);
        cross_entropy_finish(s, 0.3, moved, max, behind.sum, behind.target_logit, targets, 0, behind.loss,
                             behind.dlogits);
        EXPECT_TRUE(test::same_bytes(max, r.max));
        EXPECT_TRUE(behind.sum == r.sum && behind.loss == r.loss && behind.dlogits == r.dlogits);
      }
    }
}

TEST(CrossEntropy, InPlaceAndWithoutGradient) {
  constexpr std::int64_t C = 7, V = 1030;
  Buffer targets = some_targets(C, V);
  for (DType dtype : {DType::f64, DType::f32}) {
    Buffer logits = test::noisy(dtype, {C, V}, 5);
    ThreadPool pool(2);
    const Stream s = stream_of(pool);
    const Result r = run(s, logits, targets, C, V, dtype);
    Result parts = r;
    Buffer in_place = logits, loss(dtype, {C}), loss_only(dtype, {C});
    cross_entropy_finish(s, 1, in_place, parts.max, parts.sum, parts.target_logit, targets, 0, loss_only);
    EXPECT_TRUE(in_place == logits);
    cross_entropy_finish(s, 1, in_place, parts.max, parts.sum, parts.target_logit, targets, 0, loss, in_place);
    EXPECT_TRUE(in_place == r.dlogits);
    EXPECT_TRUE(loss == r.loss);
    EXPECT_TRUE(loss_only == r.loss);
  }
}

TEST(CrossEntropy, Extremes) {
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  for (DType dtype : {DType::f64, DType::f32}) {
    // Huge logits neither overflow nor lose the difference; masked columns (minus infinity) take no part.
    Buffer logits(dtype, {2, 3}, {10000, 10001, 10000, -infinity, -5, -5}), targets(DType::i32, {2}, {1, 2});
    const Result r = run(s, logits, targets, 2, 3, dtype);
    EXPECT_NEAR(r.loss.get(0), std::log(1 + 2 * std::exp(-1.0)), 1e-6);
    EXPECT_NEAR(r.loss.get(1), std::log(2.0), 1e-6);
    EXPECT_EQ(r.dlogits.get(3), 0.0);
    EXPECT_EQ(r.dlogits.get(4), 0.5);
    EXPECT_EQ(r.dlogits.get(5), -0.5);
    // A certain target: loss exactly 0, which a sum of differences would miss.
    const Result certain = run(s, Buffer(dtype, {1, 2}, {1000, 0}), Buffer(DType::i32, {1}, {0}), 1, 2, dtype);
    EXPECT_EQ(certain.loss.get(0), 0.0);
    // Nothing hides a logit that is not finite.
    for (double bad : {std::nan(""), infinity}) {
      const Result n = run(s, Buffer(dtype, {2, 2}, {bad, 0, 1, 2}), Buffer(DType::i32, {2}, {1, 1}), 2, 2, dtype);
      EXPECT_TRUE(std::isnan(n.loss.get(0)) || std::isinf(n.loss.get(0))) << bad;
      EXPECT_TRUE(std::isnan(n.dlogits.get(0)));
      EXPECT_TRUE(std::isfinite(n.loss.get(1)));
    }
    // Zeros of either sign give one maximum.
    Buffer max(dtype, {2});
    softmax_max(s, Buffer(dtype, {2, 2}, {-0.0, 0.0, 0.0, -0.0}), max);
    EXPECT_FALSE(std::signbit(max.get(0)) || std::signbit(max.get(1)));
    run(s, Buffer(dtype, {0, 4}), Buffer(DType::i32, {0}), 0, 4, dtype);
  }
}

}  // namespace
}  // namespace fourmi
