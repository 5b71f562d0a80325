#include "framework/capture/row_format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace fourmi {
namespace {

TEST(RowFormat, KeepsIdsAndProbabilitiesToHalfAUnit) {
  std::mt19937_64 random(1);
  for (const std::int64_t vocab_size : {257, 512, 49152, 129280, 151936, 262144}) {
    const CacheFormat f{.kind = CacheFormat::Kind::top_k, .entries = 64, .vocab_size = vocab_size};
    const double unit = std::ldexp(1.0, -(27 - f.id_bits()));
    std::uniform_int_distribution<std::int32_t> ids(0, static_cast<std::int32_t>(vocab_size - 1));
    std::uniform_real_distribution<double> logs(-30, 0);
    for (int i = 0; i < 2000; ++i) {
      const KnownToken token{i == 0 ? static_cast<std::int32_t>(vocab_size - 1) : ids(random),
                             i == 1 ? 1.0 : std::exp2(logs(random))};
      const KnownToken back = unpack(f, pack(f, token));
      ASSERT_EQ(back.id, token.id);
      ASSERT_NEAR(back.probability, token.probability, 0.5 * unit * token.probability * 1.0000001);
    }
    EXPECT_EQ(unpack(f, pack(f, {5, 1.0})).probability, 1.0);
    EXPECT_EQ(unpack(f, pack(f, {5, std::ldexp(1.0, -40)})).id, -1) << "too small to stand";
    EXPECT_EQ(unpack(f, 0).id, -1);
  }
}

TEST(RowFormat, RoundsByChanceSoThatTheMeanStays) {
  std::mt19937 random(2);
  const CacheFormat f{.kind = CacheFormat::Kind::sampled, .entries = 11, .vocab_size = 151936};
  for (const double p : {0.7, 0.123456, 1e-3, 3.3e-6, std::ldexp(1.3, -33), 0.99999}) {
    double sum = 0, squares = 0;
    const int n = 200000;
    for (int i = 0; i < n; ++i) {
      const double x = unpack(f, pack_by_chance(f, {7, p}, random())).probability;
      sum += x, squares += x * x;
    }
    const double mean = sum / n, deviation = std::sqrt(std::max(0.0, squares / n - mean * mean) / n);
    EXPECT_NEAR(mean, p, 5 * deviation + 1e-15 * p) << p;
  }
}

TEST(RowFormat, BytesAreWhatUsersAreTold) {
  EXPECT_EQ((CacheFormat{.kind = CacheFormat::Kind::top_k, .entries = 64, .vocab_size = 129280}).row_bytes(), 260);
  EXPECT_EQ((CacheFormat{.kind = CacheFormat::Kind::sampled, .entries = 11, .vocab_size = 129280}).row_bytes(), 48);
}

}  // namespace
}  // namespace fourmi
