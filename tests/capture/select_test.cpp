// What is kept of a distribution: the likeliest, or a sample whose expectation is the distribution.
#include "framework/capture/select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>

namespace fourmi {
namespace {

struct Made {
  std::vector<float> logits;
  std::vector<double> p;  // at the temperature
  TeacherRow<float> row;

  Made(std::int64_t V, double spread, double temperature, unsigned seed, std::int64_t padding = 0)
      : logits(static_cast<std::size_t>(V)) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (float& x : logits) x = static_cast<float>(spread) * normal(random);
    for (std::int64_t v = V - padding; v < V; ++v)
      logits[static_cast<std::size_t>(v)] = -std::numeric_limits<float>::infinity();
    const float most = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const float x : logits) p.push_back(std::exp((static_cast<double>(x) - most) / temperature)), sum += p.back();
    for (double& x : p) x /= sum;
    row = {logits, most, static_cast<float>(sum), temperature};
  }
  double entropy() const {
    double h = 0;
    for (const double x : p)
      if (x > 0) h -= x * std::log(x);
    return h;
  }
};

TEST(Select, TheLikeliestInOrderWithTheRest) {
  for (const std::int64_t V : {64, 500, 5000})
    for (const double temperature : {1.0, 2.0}) {
      const Made made(V, 3, temperature, static_cast<unsigned>(V), 3);
      const CacheFormat f{.kind = CacheFormat::Kind::top_k, .entries = 32, .vocab_size = V};
      TokenSelection selection(f);
      std::vector<std::uint32_t> packed(32);
      const float rest = selection.take(made.row, RandomKey{}, 0, packed.data());
      std::vector<std::int32_t> order(static_cast<std::size_t>(V));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
        return made.logits[static_cast<std::size_t>(a)] > made.logits[static_cast<std::size_t>(b)];
      });
      double mass = 0;
      for (std::size_t k = 0; k < 32; ++k) {
        const KnownToken token = unpack(f, packed[k]);
        const double p = made.p[static_cast<std::size_t>(order[k])];
        ASSERT_EQ(token.id, order[k]);
        ASSERT_NEAR(token.probability, p, p * 1e-4);
        mass += p;
      }
      EXPECT_NEAR(rest, 1 - mass, 2e-6);
    }
}

TEST(Select, EqualLogitsAreTakenByNumber) {
  const std::vector<float> logits(200, 0.5f);
  const CacheFormat f{.kind = CacheFormat::Kind::top_k, .entries = 4, .vocab_size = 200};
  TokenSelection selection(f);
  std::vector<std::uint32_t> packed(4);
  selection.take(TeacherRow<float>{logits, 0.5f, 200.0f, 1}, RandomKey{}, 0, packed.data());
  for (std::int32_t k = 0; k < 4; ++k) EXPECT_EQ(unpack(f, packed[static_cast<std::size_t>(k)]).id, k);
}

/// Exactly n tokens, all of the mass, the entropy; and over many draws each token's mean is its probability.
TEST(Select, ASampleIsTheDistributionInExpectation) {
  for (const double spread : {0.3, 2.0, 6.0}) {
    const std::int64_t V = 300, n = 11;
    const Made made(V, spread, 1.3, 5, 2);
    const CacheFormat f{.kind = CacheFormat::Kind::sampled, .entries = n, .vocab_size = V};
    TokenSelection selection(f);
    std::vector<std::uint32_t> packed(static_cast<std::size_t>(n));
    std::vector<double> sum(static_cast<std::size_t>(V)), squares(static_cast<std::size_t>(V));
    const int draws = 20000;
    double squared_errors = 0;
    for (int d = 0; d < draws; ++d) {
      const float entropy = selection.take(made.row, RandomKey{17}, static_cast<std::uint64_t>(d), packed.data());
      ASSERT_NEAR(entropy, made.entropy(), 1e-5);
      double mass = 0;
      std::map<std::int32_t, double> drawn;
      for (const std::uint32_t word : packed) {
        const KnownToken token = unpack(f, word);
        ASSERT_GE(token.id, 0);
        ASSERT_TRUE(drawn.emplace(token.id, token.probability).second) << "a token twice";
        mass += token.probability;
      }
      ASSERT_NEAR(mass, 1, 1e-4);
      for (std::size_t v = 0; v < made.p.size(); ++v) {
        const auto at = drawn.find(static_cast<std::int32_t>(v));
        const double x = at == drawn.end() ? 0 : at->second;
        sum[v] += x, squares[v] += x * x;
        squared_errors += (x - made.p[v]) * (x - made.p[v]);
      }
    }
    double largest = 0;
    for (std::size_t v = 0; v < made.p.size(); ++v) {
      const double mean = sum[v] / draws, variance = std::max(0.0, squares[v] / draws - mean * mean);
      // A rare token is drawn seldom, with a weight of at most 1 / n; a likely one's bits are those of single
      // precision.
      const double p = made.p[v];
      const double deviation =
          p < 0.01 ? std::sqrt(p / static_cast<double>(n) / draws) : std::sqrt(variance / draws) + 1e-6 * p;
      if (p > 0) largest = std::max(largest, std::abs(mean - p) / deviation);
    }
    EXPECT_LT(largest, 5) << spread;  // of 300 normal numbers one beyond 5 in 5,800 runs; the seed is fixed
    // Less variance than as many draws with replacement have: sum p (1 - p) / n.
    double with_replacement = 0;
    for (const double x : made.p) with_replacement += x * (1 - x) / static_cast<double>(n);
    EXPECT_LT(squared_errors / draws, 1.001 * with_replacement) << spread;
  }
}

TEST(Select, ASampleIsAFunctionOfKeyAndPosition) {
  const Made made(300, 1, 1, 9);
  const CacheFormat f{.kind = CacheFormat::Kind::sampled, .entries = 8, .vocab_size = 300};
  TokenSelection one(f), other(f);
  std::vector<std::uint32_t> a(8), b(8), c(8);
  other.take(made.row, RandomKey{3}, 99, c.data());
  one.take(made.row, RandomKey{3}, 5, a.data()), other.take(made.row, RandomKey{3}, 5, b.data());
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
}

/// Fewer tokens than a row has places.
TEST(Select, ASmallVocabularyIsKeptWhole) {
  const Made made(6, 1, 1, 9);
  for (const auto kind : {CacheFormat::Kind::top_k, CacheFormat::Kind::sampled}) {
    const CacheFormat f{.kind = kind, .entries = 8, .vocab_size = 6};
    TokenSelection selection(f);
    std::vector<std::uint32_t> packed(8);
    const float rest = selection.take(made.row, RandomKey{3}, 5, packed.data());
    if (kind == CacheFormat::Kind::top_k) {
      EXPECT_EQ(rest, 0);
    }
    double mass = 0;
    for (const std::uint32_t word : packed) mass += unpack(f, word).probability;
    EXPECT_NEAR(mass, 1, 1e-5);
  }
}

}  // namespace
}  // namespace fourmi
