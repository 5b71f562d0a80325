#include "kernels/ops/routing.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"

namespace fourmi {
namespace {

using test::Buffer;
using test::on_card;
using test::stream_of;

struct Routed {
  Buffer scores, experts, weights;
};

Routed route(const Stream& s, const Routing& r, Buffer logits, Buffer* bias, std::int64_t K) {
  const std::int64_t M = logits->dim(0), E = logits->dim(1);
  Routed out{Buffer(logits->dtype, {M, E}), Buffer(DType::i32, {M, K}), Buffer(logits->dtype, {M, K})};
  routing_forward(s, r, logits, bias ? bias->tensor() : Tensor{}, out.scores, out.experts, out.weights);
  return out;
}

Routed route(const Routing& r, Buffer logits, Buffer* bias, std::int64_t K) {
  ThreadPool pool(1);
  return route(stream_of(pool), r, logits, bias, K);
}

std::vector<std::int32_t> ids(const Routed& r, std::int64_t token, std::int64_t K) {
  std::vector<std::int32_t> chosen;
  for (std::int64_t k = 0; k < K; ++k) chosen.push_back(r.experts.id(token * K + k));
  return chosen;
}
using Ids = std::vector<std::int32_t>;

/// Indices of the `count` largest, ties to the lower one, ascending.
std::vector<std::int64_t> largest(const std::vector<double>& values, std::int64_t count) {
  std::vector<std::int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
    return values[static_cast<std::size_t>(a)] > values[static_cast<std::size_t>(b)];
  });
  order.resize(static_cast<std::size_t>(count));
  std::sort(order.begin(), order.end());
  return order;
}

/// Reference section 1.3 to the letter, in double, from the scores (which are compared apart).
void expect_choice(const Routing& r, const Routed& got, const Buffer* bias, std::int64_t token, std::int64_t K) {
  const std::int64_t E = got.scores.size() / (got.experts.size() / K), size = E / r.num_groups;
  std::vector<double> biased;
  for (std::int64_t e = 0; e < E; ++e) {
    const double s = got.scores.get(token * E + e), b = bias ? bias->get(e) : 0.0;
    biased.push_back(got.scores->dtype == DType::f32 ? double(float(s) + float(b)) : s + b);
  }
  if (r.num_groups > 1) {
    std::vector<double> rank;
    for (std::int64_t g = 0; g < r.num_groups; ++g) {
      std::vector<double> group(biased.begin() + g * size, biased.begin() + (g + 1) * size);
      std::sort(group.rbegin(), group.rend());
      double value = group[0];
      if (r.group_score == GroupScore::top2_sum) value += group[1];
      rank.push_back(got.scores->dtype == DType::f32 ? double(float(value)) : value);
    }
    const auto kept = largest(rank, r.topk_group);
    for (std::int64_t e = 0; e < E; ++e)
      if (!std::count(kept.begin(), kept.end(), e / size))
        biased[static_cast<std::size_t>(e)] = -std::numeric_limits<double>::infinity();
  }
  const auto expected = largest(biased, K);
  double sum = 0;
  for (auto e : expected) sum += got.scores.get(token * E + e);
  for (std::int64_t k = 0; k < K; ++k) {
    const std::int64_t e = expected[static_cast<std::size_t>(k)];
    ASSERT_EQ(got.experts.id(token * K + k), e) << "token " << token;
    const double weight = got.scores.get(token * E + e) / (r.normalise ? sum + 1e-20 : 1.0) * r.scaling_factor;
    ASSERT_NEAR(got.weights.get(token * K + k), weight, 12 * test::unit_of(got.scores->dtype) * weight);
  }
}

class RoutingKinds : public ::testing::TestWithParam<std::tuple<Scoring, bool, bool, GroupScore>> {
 protected:
  Routing routing(std::int64_t num_groups, std::int64_t topk_group) const {
    return {.scoring = std::get<0>(GetParam()),
            .group_score = std::get<3>(GetParam()),
            .num_groups = num_groups,
            .topk_group = topk_group,
            .normalise = std::get<1>(GetParam()),
            .scaling_factor = 2.5};
  }
  bool biased() const { return std::get<2>(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(All, RoutingKinds,
                         ::testing::Combine(::testing::Values(Scoring::sigmoid, Scoring::softmax), ::testing::Bool(),
                                            ::testing::Bool(),
                                            ::testing::Values(GroupScore::top2_sum, GroupScore::max)));

TEST_P(RoutingKinds, FollowsTheReference) {
  struct Size {
    std::int64_t E, K, groups, kept;
  };
  for (DType dtype : {DType::f64, DType::f32})
    for (const auto [E, K, groups, kept] : {Size{8, 2, 1, 1}, Size{64, 6, 1, 1}, Size{72, 8, 1, 1}, Size{32, 4, 8, 3},
                                            Size{12, 6, 3, 2}, Size{5, 5, 1, 1}}) {
      const std::int64_t M = on_card() ? 75 : 301;
      const Routing r = routing(groups, kept);
      Buffer logits = test::noisy(dtype, {M, E}, 1, 2.0), bias = test::noisy(dtype, {E}, 2, 0.3);
      const Routed first = route(r, logits, biased() ? &bias : nullptr, K);
      for (std::int64_t t = 0; t < M; ++t) {
        double sum = 0;
        for (std::int64_t e = 0; e < E; ++e) sum += std::exp(logits.get(t * E + e));
        for (std::int64_t e = 0; e < E; ++e) {
          const double x = logits.get(t * E + e),
                       s = r.scoring == Scoring::sigmoid ? 1 / (1 + std::exp(-x)) : std::exp(x) / sum;
          ASSERT_NEAR(first.scores.get(t * E + e), s, 20 * test::unit_of(dtype) * s);
        }
        expect_choice(r, first, biased() ? &bias : nullptr, t, K);
      }
      // A card has the CPU's sums, in the CPU's order.
      test::on_every_stream([&](const Stream& s) {
        const Routed again = route(s, r, logits, biased() ? &bias : nullptr, K);
        EXPECT_TRUE(again.scores == first.scores && again.experts == first.experts && again.weights == first.weights);
      });
    }
}

// loss = <g, weights> + <h, scores>: the selection stands still under a small step, as its gradient does.
TEST_P(RoutingKinds, GradientsByFiniteDifferences) {
  constexpr std::int64_t M = 5, E = 8, K = 3;
  const Routing r = routing(2, 1);
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  for (bool dense : {false, true}) {
    Buffer logits = test::noisy(DType::f64, {M, E}, 3), bias = test::noisy(DType::f64, {E}, 4, 0.2);
    Buffer g = test::noisy(DType::f64, {M, K}, 5), h = test::noisy(DType::f64, {M, E}, 6), dlogits(DType::f64, {M, E});
    Buffer* b = biased() ? &bias : nullptr;
    Routed now = route(r, logits, b, K);
    routing_backward(s, r, g, now.scores, now.experts, dense ? h.tensor() : Tensor{}, dlogits);
    const auto loss = [&] {
      const Routed x = route(r, logits, b, K);
      double sum = 0;
      for (std::int64_t i = 0; i < M * K; ++i) sum += g.get(i) * x.weights.get(i);
      for (std::int64_t i = 0; i < M * E && dense; ++i) sum += h.get(i) * x.scores.get(i);
      return sum;
    };
    for (std::int64_t i = 0; i < M * E; ++i) ASSERT_NEAR(dlogits.get(i), test::difference(logits, i, loss), 1e-8) << i;
    if (dense) {  // the dense gradient's memory may be the result's
      Buffer in_place = h;
      routing_backward(s, r, g, now.scores, now.experts, in_place, in_place);
      EXPECT_TRUE(in_place == dlogits);
    }
    test::on_every_stream([&](const Stream& other) {
      Buffer again(DType::f64, {M, E});
      routing_backward(other, r, g, now.scores, now.experts, dense ? h.tensor() : Tensor{}, again);
      EXPECT_TRUE(again == dlogits);
    });
  }
}

// As many experts as a card takes, many ties, groups of every kind; beside the CPU, to the bit.
TEST(Routing, ManyExpertsAndTies) {
  struct Size {
    std::int64_t E, K, groups, kept;
  };
  ThreadPool pool(1);
  for (DType dtype : {DType::f64, DType::f32})
    for (const auto [E, K, groups, kept] :
         {Size{256, 8, 8, 4}, Size{512, 32, 64, 16}, Size{384, 8, 1, 1}, Size{160, 6, 8, 3}, Size{96, 40, 3, 2},
          Size{500, 70, 100, 50}, Size{17, 17, 1, 1}, Size{33, 1, 33, 2}})
      for (Scoring scoring : {Scoring::sigmoid, Scoring::softmax}) {
        constexpr std::int64_t M = 5;
        const Routing r{.scoring = scoring,
                        .group_score = K == 6 ? GroupScore::max : GroupScore::top2_sum,
                        .num_groups = groups,
                        .topk_group = kept,
                        .scaling_factor = 2.5};
        Buffer logits = test::noisy(dtype, {M, E}, 7, 2.0), bias = test::noisy(dtype, {E}, 8, 0.3);
        logits.fill([&](std::int64_t i) { return i / E == 0 ? logits.get(i) : std::round(3 * logits.get(i)) / 3; });
        for (Buffer* b : {static_cast<Buffer*>(nullptr), &bias}) {
          Routed got = route(r, logits, b, K);
          const Routed cpu = route(Stream(pool), r, logits, b, K);
          EXPECT_TRUE(got.scores == cpu.scores && got.experts == cpu.experts && got.weights == cpu.weights) << E;
          if (E != groups)
            for (std::int64_t t = 0; t < M; ++t) expect_choice(r, got, b, t, K);
          const Buffer dw = test::noisy(dtype, {M, K}, 9), dense = test::noisy(dtype, {M, E}, 10);
          Buffer d(dtype, {M, E}), expected(dtype, {M, E});
          routing_backward(stream_of(pool), r, dw, got.scores, got.experts, b ? dense.tensor() : Tensor{}, d);
          routing_backward(Stream(pool), r, dw, got.scores, got.experts, b ? dense.tensor() : Tensor{}, expected);
          EXPECT_TRUE(d == expected) << E;
        }
      }
}

TEST(Routing, CountsOfManyChoices) {
  ThreadPool pool(1);
  for (std::int64_t E : {1, 5, 300}) {
    const Buffer experts(DType::i32, {2603, 7}), counts(DType::i64, {E}), expected(DType::i64, {E});
    experts.fill([&](std::int64_t i) { return static_cast<double>(i * i % 4099 % E); });
    for (const Buffer* c : {&counts, &expected}) c->fill([](std::int64_t e) { return static_cast<double>(e); });
    for (std::int64_t i = 0; i < experts.size(); ++i) ++expected.at<std::int64_t>(experts.id(i));
    count_choices(stream_of(pool), experts, counts);
    EXPECT_TRUE(counts == expected);
  }
}

TEST(Routing, BackwardInFloatIsCloseToDouble) {
  constexpr std::int64_t M = 50, E = 64, K = 6;
  ThreadPool pool(1);
  for (Scoring scoring : {Scoring::sigmoid, Scoring::softmax}) {
    const Routing r{.scoring = scoring, .scaling_factor = 2.5};
    Buffer logits = test::noisy(DType::f32, {M, E}, 1), logits64(DType::f64, {M, E}),
           dw = test::noisy(DType::f32, {M, K}, 2), dw64(DType::f64, {M, K});
    for (std::int64_t i = 0; i < M * E; ++i) logits64.set(i, logits.get(i));
    for (std::int64_t i = 0; i < M * K; ++i) dw64.set(i, dw.get(i));
    Routed a = route(r, logits, nullptr, K), b = route(r, logits64, nullptr, K);
    ASSERT_TRUE(a.experts == b.experts);
    Buffer d(DType::f32, {M, E}), d64(DType::f64, {M, E});
    routing_backward(stream_of(pool), r, dw, a.scores, a.experts, {}, d);
    routing_backward(stream_of(pool), r, dw64, b.scores, b.experts, {}, d64);
    EXPECT_LE(test::worst_error(d, [&](std::int64_t i) { return d64.get(i); }), 5e-6);
  }
}

TEST(Routing, TiesGoToTheLowerId) {
  Buffer equal(DType::f32, {1, 6}, {1, 1, 1, 1, 1, 1}), two(DType::f32, {1, 6}, {0, 3, 1, 3, 1, 3});
  EXPECT_EQ(ids(route({}, equal, nullptr, 2), 0, 2), (Ids{0, 1}));
  EXPECT_EQ(ids(route({}, two, nullptr, 2), 0, 2), (Ids{1, 3}));
  EXPECT_EQ(ids(route({}, two, nullptr, 4), 0, 4), (Ids{1, 2, 3, 5}));
  // Equal groups, too: of three equal groups the first two are kept.
  EXPECT_EQ(ids(route({.num_groups = 3, .topk_group = 2}, equal, nullptr, 3), 0, 3), (Ids{0, 1, 2}));
  // Biased scores of -0 and +0 are equal: 0.5 - 0.5 and 0.5 - 0.5 from either side.
  Buffer zeros(DType::f32, {1, 2}, {0, 0}), bias(DType::f32, {2}, {-0.5, -0.5});
  EXPECT_EQ(ids(route({}, zeros, &bias, 1), 0, 1), (Ids{0}));
}

// Scores of sigmoid(0) = 0.5 and a bias that makes all biased scores of the kept groups negative: with a mask of 0.0
// (as in Hugging Face's code) experts of a group that was not kept would win.
TEST(Routing, GroupMaskIsMinusInfinity) {
  Buffer logits(DType::f32, {1, 6}, {0, 0, 0, 0, 0, 0});
  Buffer bias(DType::f32, {6}, {-0.6, -0.7, -0.8, -0.9, -0.55, -3.0});
  const Routing r{.num_groups = 3, .topk_group = 1};
  // Sums of the two best: -0.3, -0.7, -2.55: group 0.
  EXPECT_EQ(ids(route(r, logits, &bias, 2), 0, 2), (Ids{0, 1}));
  // By the best one alone it is group 2, although one of its experts is far behind all others.
  const Routing by_best{.group_score = GroupScore::max, .num_groups = 3, .topk_group = 1};
  EXPECT_EQ(ids(route(by_best, logits, &bias, 2), 0, 2), (Ids{4, 5}));
  // A kept biased score of exactly 0 against masked experts of lower ids.
  Buffer half(DType::f32, {6}, {-1, -1, -0.5, 0.5, -1, -1});
  EXPECT_EQ(ids(route(r, logits, &half, 2), 0, 2), (Ids{2, 3}));
}

// Positive biased scores: the group with the best single expert loses to the one with the best pair.
TEST(Routing, GroupsByTheSumOfTheTwoBest) {
  Buffer logits(DType::f64, {1, 8}, {0, 0, 0, 0, 0, 0, 0, 0});
  Buffer bias(DType::f64, {8}, {0.9, 0.0, 0.5, 0.5, 0.45, 0.55, 0.1, 0.1});
  const Routing one{.num_groups = 4, .topk_group = 1}, two{.num_groups = 4, .topk_group = 2};
  EXPECT_EQ(ids(route(one, logits, &bias, 2), 0, 2), (Ids{2, 3}));  // sums 1.9 2.0 2.0 1.2: a tie, lower group
  EXPECT_EQ(ids(route(two, logits, &bias, 2), 0, 2), (Ids{2, 5}));  // 0.55, then 0.5 with the lower id
  const Routed r = route(two, logits, &bias, 3);
  EXPECT_EQ(ids(r, 0, 3), (Ids{2, 3, 5}));
  for (std::int64_t k = 0; k < 3; ++k) EXPECT_NEAR(r.weights.get(k), 1.0 / 3, 1e-15);  // from the unbiased scores
}

TEST(Routing, NotANumberNeverMakesAnInvalidExpert) {
  const double nan = std::nan("");
  Buffer logits(DType::f32, {3, 4}, {nan, nan, nan, nan, 1, nan, 2, nan, nan, 1, nan, 3});
  for (Scoring scoring : {Scoring::sigmoid, Scoring::softmax})
    for (std::int64_t groups : {1, 2}) {
      const Routed r = route({.scoring = scoring, .num_groups = groups, .topk_group = groups}, logits, nullptr, 2);
      for (std::int64_t t = 0; t < 3; ++t) {
        const Ids chosen = ids(r, t, 2);
        EXPECT_TRUE(0 <= chosen[0] && chosen[0] < chosen[1] && chosen[1] < 4);
      }
      if (scoring == Scoring::sigmoid) {
        EXPECT_EQ(ids(r, 2, 2), (Ids{1, 3}));
      }
    }
  EXPECT_TRUE(std::isnan(route({}, logits, nullptr, 2).weights.get(0)));
}

TEST(Routing, VanishedScoresStayFinite) {
  Buffer logits(DType::f32, {1, 4}, {-200, -200, -200, -200});
  Routed r = route({}, logits, nullptr, 2);
  Buffer dw(DType::f32, {1, 2}, {1, -1}), d(DType::f32, {1, 4});
  ThreadPool pool(1);
  routing_backward(stream_of(pool), {}, dw, r.scores, r.experts, {}, d);
  for (std::int64_t k = 0; k < 2; ++k) EXPECT_EQ(r.weights.get(k), 0.0);
  for (std::int64_t e = 0; e < 4; ++e) EXPECT_EQ(d.get(e), 0.0);
}

TEST(Routing, CountsAndChecks) {
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  Buffer counts(DType::i64, {4}, {10, 0, 0, 0});
  count_choices(s, Buffer(DType::i32, {3, 2}, {0, 1, 1, 3, 1, 3}), counts);
  EXPECT_TRUE(counts == Buffer(DType::i64, {4}, {11, 3, 0, 2}));
  if (on_card()) {  // which does not wait to tell: it leaves out what is no expert
    count_choices(s, Buffer(DType::i32, {1, 2}, {4, -1}), counts);
    EXPECT_TRUE(counts == Buffer(DType::i64, {4}, {11, 3, 0, 2}));
  } else {
    EXPECT_THROW(count_choices(s, Buffer(DType::i32, {1, 1}, {4}), counts), Error);
  }
  Buffer logits = test::noisy(DType::f32, {2, 6}, 1);
  EXPECT_THROW(route({.num_groups = 4, .topk_group = 1}, logits, nullptr, 1), Error);  // 4 does not divide 6
  EXPECT_THROW(route({.num_groups = 3, .topk_group = 1}, logits, nullptr, 3), Error);  // 3 of 2 experts
  EXPECT_THROW(route({}, logits, nullptr, 7), Error);
  route({}, Buffer(DType::f32, {0, 6}), nullptr, 2);
}

}  // namespace
}  // namespace fourmi
