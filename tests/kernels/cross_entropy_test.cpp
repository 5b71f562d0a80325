#include "kernels/ops/cross_entropy.h"

#include <cmath>
#include <limits>

#include "kernels/numerics/math.h"
#include "tests/kernels/buffer.h"

namespace fourmi {
namespace {

using testing::Buffer;
using testing::on_every_stream;

constexpr double infinity = std::numeric_limits<double>::infinity();

struct Result {
  Buffer max, sum, target_logit, loss, dlogits;
  Result(std::int64_t C, std::int64_t V, DType dtype, DType gradient)
      : max({C}, dtype), sum({C}, dtype), target_logit({C}, dtype), loss({C}, dtype), dlogits({C, V}, gradient) {}
};

Result run(const Stream& s, Buffer logits, Buffer targets, std::int64_t C, std::int64_t V, DType gradient,
           double weight = 1) {
  Result r(C, V, logits.dtype(), gradient);
  softmax_max(s, logits, r.max);
  softmax_sum(s, logits, r.max, targets, 0, r.sum, r.target_logit);
  cross_entropy_finish(s, weight, logits, r.max, r.sum, r.target_logit, targets, 0, r.loss, r.dlogits);
  return r;
}

Buffer some_targets(std::int64_t C, std::int64_t V) {
  Buffer targets({C}, DType::i32);
  for (std::int64_t i = 0; i < C; ++i) targets.set(i, i % 5 == 4 ? -1 : double(i * 7 % V));
  return targets;
}

/// loss and gradient of a row in long double.
void expect_row(const Buffer& logits, const Buffer& targets, const Result& r, std::int64_t row, std::int64_t V,
                double weight) {
  const DType dtype = logits.dtype();
  long double sum = 0;
  for (std::int64_t v = 0; v < V; ++v) sum += std::exp(static_cast<long double>(logits.at(row * V + v)));
  const std::int64_t target = targets.id(row);
  const auto expected_loss = target < 0 ? 0.0L : std::log(sum) - logits.at(row * V + target);
  EXPECT_NEAR(r.loss.at(row), double(expected_loss),
              (10 + std::fabs(double(expected_loss))) * 2 * testing::unit_of(dtype));
  for (std::int64_t v = 0; v < V; ++v) {
    const auto p = std::exp(static_cast<long double>(logits.at(row * V + v))) / sum;
    const double expected = target < 0 ? 0.0 : weight * double(p - (v == target));
    // Where the target is nearly certain, p - 1 has lost what 1 - p would have kept: an absolute error.
    const double tolerance =
        std::fabs(weight) * 40 * testing::unit_of(dtype) + std::fabs(expected) * testing::unit_of(r.dlogits.dtype());
    ASSERT_NEAR(r.dlogits.at(row * V + v), expected, tolerance) << row << ", " << v;
  }
}

TEST(CrossEntropy, AgreesWithTheFormula) {
  for (DType dtype : {DType::f64, DType::f32})
    for (DType gradient : {DType::f64, DType::f32, DType::bf16})
      for (std::int64_t V : {1, 5, 16, 33, 320, 1100}) {
        constexpr std::int64_t C = 9;
        Buffer logits = Buffer::random({C, V}, dtype, 1, 3.0), targets = some_targets(C, V);
        ThreadPool pool(1);
        const Result first = run(Stream(pool), logits, targets, C, V, gradient, 0.3);
        for (std::int64_t row = 0; row < C; ++row) expect_row(logits, targets, first, row, V, 0.3);
        on_every_stream([&](const Stream& s) {
          const Result r = run(s, logits, targets, C, V, gradient, 0.3);
          EXPECT_TRUE(r.max == first.max && r.sum == first.sum && r.target_logit == first.target_logit);
          EXPECT_TRUE(r.loss == first.loss && r.dlogits == first.dlogits);
        });
      }
}

TEST(CrossEntropy, GradientsByFiniteDifferences) {
  constexpr std::int64_t C = 4, V = 19;
  Buffer logits = Buffer::random({C, V}, DType::f64, 2), targets({C}, DType::i32, {0, 18, -1, 7});
  ThreadPool pool(1);
  const Stream s(pool);
  const double weight = 1.7;
  const Result r = run(s, logits, targets, C, V, DType::f64, weight);
  const auto loss = [&] {
    const Result now = run(s, logits, targets, C, V, DType::f64, weight);
    return now.loss.at(0) + now.loss.at(1) + now.loss.at(2) + now.loss.at(3);
  };
  // The weight scales the gradient and not the loss.
  for (std::int64_t i = 0; i < C * V; ++i)
    EXPECT_NEAR(r.dlogits.at(i), weight * testing::difference(logits, i, loss), 1e-9);
}

// The documented order of the sum, once more in scalar code.
TEST(CrossEntropy, SumIsALaneSum) {
  constexpr std::int64_t V = 77;
  Buffer logits = Buffer::random({1, V}, DType::f32, 3, 5.0), targets({1}, DType::i32, {1});
  ThreadPool pool(1);
  const Result r = run(Stream(pool), logits, targets, 1, V, DType::f32);
  const auto max = r.max.get<float>(0);
  float lane[16] = {};
  for (std::int64_t i = 0; i < V; ++i) lane[i % 16] += fourmi::exp(logits.get<float>(i) - max);
  for (int half = 8; half > 0; half /= 2)
    for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
  EXPECT_EQ(r.sum.get<float>(0), lane[0]);
  EXPECT_EQ(r.loss.get<float>(0), fourmi::log(lane[0]) + (max - logits.get<float>(1)));
}

TEST(CrossEntropy, VocabularyCutOverRanks) {
  constexpr std::int64_t C = 6, V = 60, part = 20;
  Buffer logits = Buffer::random({C, V}, DType::f64, 4, 2.0), targets({C}, DType::i32, {0, 19, 20, 59, 40, -1});
  ThreadPool pool(1);
  const Stream s(pool);
  const Result whole = run(s, logits, targets, C, V, DType::f64);
  std::vector<Buffer> held;
  for (std::int64_t p = 0; p < 3; ++p) {
    held.emplace_back(Shape{C, part}, DType::f64);
    for (std::int64_t i = 0; i < C * part; ++i) held.back().set(i, logits.at(i / part * V + p * part + i % part));
  }
  Buffer max({C}, DType::f64, std::vector<double>(C, -infinity)), sum({C}, DType::f64, std::vector<double>(C, 0)),
      target = sum;
  for (auto& x : held) {
    Buffer m({C}, DType::f64);
    softmax_max(s, x, m);
    for (std::int64_t i = 0; i < C; ++i) max.set(i, std::max(max.at(i), m.at(i)));
  }
  EXPECT_TRUE(max == whole.max);
  for (std::int64_t p = 0; p < 3; ++p) {
    Buffer u({C}, DType::f64), t({C}, DType::f64);
    softmax_sum(s, held[static_cast<std::size_t>(p)], max, targets, p * part, u, t);
    for (std::int64_t i = 0; i < C; ++i) {
      sum.set(i, sum.at(i) + u.at(i));
      target.set(i, target.at(i) + t.at(i));
      const bool held_here = targets.id(i) >= 0 && targets.id(i) / part == p;
      EXPECT_EQ(t.at(i), held_here ? whole.target_logit.at(i) : 0.0);
    }
  }
  for (std::int64_t p = 0; p < 3; ++p) {
    Buffer loss({C}, DType::f64), d({C, part}, DType::f64);
    cross_entropy_finish(s, 1, held[static_cast<std::size_t>(p)], max, sum, target, targets, p * part, loss, d);
    for (std::int64_t i = 0; i < C; ++i) EXPECT_NEAR(loss.at(i), whole.loss.at(i), 1e-14);
    for (std::int64_t i = 0; i < C * part; ++i)
      EXPECT_NEAR(d.at(i), whole.dlogits.at(i / part * V + p * part + i % part), 1e-14);
  }
}

TEST(CrossEntropy, InPlaceAndWithoutGradient) {
  constexpr std::int64_t C = 7, V = 1030;
  Buffer targets = some_targets(C, V);
  for (DType dtype : {DType::f64, DType::f32}) {
    Buffer logits = Buffer::random({C, V}, dtype, 5);
    ThreadPool pool(2);
    const Stream s(pool);
    const Result r = run(s, logits, targets, C, V, dtype);
    Result parts = r;
    Buffer in_place = logits, loss({C}, dtype), loss_only({C}, dtype);
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
  const Stream s(pool);
  for (DType dtype : {DType::f64, DType::f32}) {
    // Huge logits neither overflow nor lose the difference; masked columns (minus infinity) take no part.
    Buffer logits({2, 3}, dtype, {10000, 10001, 10000, -infinity, -5, -5}), targets({2}, DType::i32, {1, 2});
    const Result r = run(s, logits, targets, 2, 3, dtype);
    EXPECT_NEAR(r.loss.at(0), std::log(1 + 2 * std::exp(-1.0)), 1e-6);
    EXPECT_NEAR(r.loss.at(1), std::log(2.0), 1e-6);
    EXPECT_EQ(r.dlogits.at(3), 0.0);
    EXPECT_EQ(r.dlogits.at(4), 0.5);
    EXPECT_EQ(r.dlogits.at(5), -0.5);
    // A certain target: loss exactly 0, which a sum of differences would miss.
    const Result certain = run(s, Buffer({1, 2}, dtype, {1000, 0}), Buffer({1}, DType::i32, {0}), 1, 2, dtype);
    EXPECT_EQ(certain.loss.at(0), 0.0);
    // Nothing hides a logit that is not finite.
    for (double bad : {std::nan(""), infinity}) {
      const Result n = run(s, Buffer({2, 2}, dtype, {bad, 0, 1, 2}), Buffer({2}, DType::i32, {1, 1}), 2, 2, dtype);
      EXPECT_TRUE(std::isnan(n.loss.at(0)) || std::isinf(n.loss.at(0))) << bad;
      EXPECT_TRUE(std::isnan(n.dlogits.at(0)));
      EXPECT_TRUE(std::isfinite(n.loss.at(1)));
    }
    // Zeros of either sign give one maximum.
    Buffer max({2}, dtype);
    softmax_max(s, Buffer({2, 2}, dtype, {-0.0, 0.0, 0.0, -0.0}), max);
    EXPECT_FALSE(std::signbit(max.at(0)) || std::signbit(max.at(1)));
    run(s, Buffer({0, 4}, dtype), Buffer({0}, DType::i32), 0, 4, dtype);
  }
}

}  // namespace
}  // namespace fourmi
