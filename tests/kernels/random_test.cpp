#include "kernels/numerics/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <vector>

#include "kernels/numerics/inverse_normal.h"
#include "kernels/numerics/philox.h"
#include "kernels/numerics/rounding.h"

namespace fourmi {
namespace {

using Words = std::array<std::uint32_t, 4>;

// The known-answer vectors that the authors publish with Random123.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, BitsAreThoseOfTheGenerator) {
  const RandomKey key{0x299f31d0a4093822u};
  for (std::uint64_t index : {0ull, 1ull, 2ull, 5ull, 0x85a308d3243f6a88ull, 0x85a308d3243f6a89ull}) {
    const auto w =
        philox4x32({static_cast<std::uint32_t>(index / 2), static_cast<std::uint32_t>(index / 2 >> 32), 0, 0},
                   {0xa4093822, 0x299f31d0});
    const std::size_t half = index % 2 * 2;
    EXPECT_EQ(random_bits(key, index), std::uint64_t{w[half + 1]} << 32 | w[half]);
  }
}

TEST(Random, KeysDifferAndStay) {
  std::set<std::uint64_t> keys;
  for (std::uint64_t seed : {0, 1, 2})
    for (const char* purpose : {"", "a", "data", "initialise"})
      for (const char* name : {"", "a", "aa", "layers.0.weight", "layers.1.weight", "a long name of more than 8 bytes"})
        keys.insert(random_key(seed, purpose, name).value);
  EXPECT_EQ(keys.size(), 3u * 4u * 6u);
  EXPECT_NE(random_key(1, "ab", "c").value, random_key(1, "a", "bc").value);
  // A run of any version must go on with the same numbers: these values may never change.
  EXPECT_EQ(random_key(17, "initialise", "model.embed_tokens.weight").value, 5904316770784445858u);
  EXPECT_EQ(random_bits(random_key(17, "initialise", "model.embed_tokens.weight"), 3), 7978591773666645928u);
}

TEST(Random, UniformIsOpenAndEven) {
  const RandomKey key = random_key(1, "test", "uniform");
  constexpr int n = 200000;
  double sum = 0, squares = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    const double u = random_uniform(key, i);
    ASSERT_GT(u, 0.0);
    ASSERT_LT(u, 1.0);
    EXPECT_EQ(u, static_cast<double>((random_bits(key, i) >> 12) * 2 + 1) / 9007199254740992.0);
    sum += u;
    squares += u * u;
  }
  EXPECT_NEAR(sum / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
  EXPECT_NEAR(squares / n, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / n));
}

// The distribution function by the C library's erfc in extended precision, at the inverse, gives p back.
TEST(InverseNormal, InvertsTheDistributionFunction) {
  const auto distribution = [](double x) { return 0.5L * std::erfc(-static_cast<long double>(x) / std::sqrt(2.0L)); };
  const auto density = [](double x) {
    return std::exp(-0.5L * static_cast<long double>(x) * x) / std::sqrt(2 * 3.14159265358979323846264L);
  };
  for (double p : {0x1p-53, 1e-300, 1e-100,  1e-20, 1e-11,    2e-11, 1.3e-11, 1e-5,  0.01,   0.0749, 0.075,   0.0751,
                   0.2,     0.4,    0.49999, 0.5,   0.500001, 0.7,   0.9249,  0.925, 0.9251, 0.99,   0.999999}) {
    const double x = inverse_normal(p);
    const long double error = (distribution(x) - p) / density(x);  // in x
    EXPECT_LE(std::fabs(error), 1e-15L * (std::fabs(x) + 0.01L)) << p << " -> " << x;
  }
  EXPECT_EQ(inverse_normal(0.5), 0.0);
  for (int i = 1; i < 1000; ++i) EXPECT_EQ(inverse_normal(i / 1024.0), -inverse_normal(1 - i / 1024.0));
  EXPECT_NEAR(inverse_normal(0.25), -0.6744897501960817, 1e-15);  // the paper's own checks
  EXPECT_NEAR(inverse_normal(0.001), -3.090232306167814, 1e-14);
  EXPECT_NEAR(inverse_normal(1e-20), -9.262340089798408, 1e-14);
  EXPECT_EQ(inverse_normal(0.0), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(inverse_normal(1.0), std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(inverse_normal(-0.1)));
  EXPECT_TRUE(std::isnan(inverse_normal(1.5)));
  EXPECT_TRUE(std::isnan(inverse_normal(std::nan(""))));
}

TEST(Random, NormalHasTheMomentsOfANormal) {
  const RandomKey key = random_key(1, "test", "normal");
  constexpr int n = 200000;
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0, neighbours = 0, last = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    const double x = random_normal(key, i);
    m1 += x;
    m2 += x * x;
    m3 += x * x * x;
    m4 += x * x * x * x;
    neighbours += x * last;
    last = x;
  }
  const double error = 5 / std::sqrt(n);
  EXPECT_NEAR(m1 / n, 0, error);
  EXPECT_NEAR(m2 / n, 1, error * std::sqrt(2.0));
  EXPECT_NEAR(m3 / n, 0, error * std::sqrt(15.0));
  EXPECT_NEAR(m4 / n, 3, error * std::sqrt(96.0));
  EXPECT_NEAR(neighbours / n, 0, error);
}

template <class T>
void expect_fill_depends_on_index_only(DType dtype) {
  const RandomKey key = random_key(5, "initialise", "w");
  constexpr std::size_t n = 101;
  std::vector<T> whole(n);
  fill_normal(Tensor(whole.data(), dtype, {n}), key, 1000, 0.006);
  for (std::size_t i = 0; i < n; ++i) {
    const T expected = round_to<T>(0.006 * random_normal(key, 1000 + i));
    ASSERT_EQ(std::memcmp(&expected, &whole[i], sizeof(T)), 0);
  }
  for (std::size_t begin : {0, 1, 2, 50})
    for (std::size_t end : {50, 51, 101}) {
      std::vector<T> part(n);
      fill_normal(Tensor(part.data(), dtype, {static_cast<std::int64_t>(end - begin)}), key, 1000 + begin, 0.006);
      ASSERT_EQ(std::memcmp(part.data(), whole.data() + begin, (end - begin) * sizeof(T)), 0);
      const T zero{};
      for (std::size_t i = end - begin; i < n; ++i) ASSERT_EQ(std::memcmp(&part[i], &zero, sizeof(T)), 0);
    }
}

TEST(Random, FillDependsOnIndexOnly) {
  expect_fill_depends_on_index_only<double>(DType::f64);
  expect_fill_depends_on_index_only<float>(DType::f32);
  expect_fill_depends_on_index_only<bfloat16>(DType::bf16);
}

TEST(Rounding, DoubleToBfloat16RoundsOnce) {
  const auto bits = [](double x) { return round_to<bfloat16>(x).bits; };
  EXPECT_EQ(bits(1.0), 0x3f80);
  // Just above and below the middle between 1 and the next bfloat16: a way over float would see the middle itself.
  const double middle = 1 + 0x1p-8;
  EXPECT_EQ(bits(middle), 0x3f80);  // tie to even
  EXPECT_EQ(bits(middle + 0x1p-40), 0x3f81);
  EXPECT_EQ(bits(-middle - 0x1p-40), 0xbf81);
  const double odd_middle = 1 + 3 * 0x1p-8;
  EXPECT_EQ(bits(odd_middle), 0x3f82);
  EXPECT_EQ(bits(odd_middle - 0x1p-40), 0x3f81);
  EXPECT_EQ(bits(1e300), 0x7f80);
  EXPECT_EQ(bits(-1e300), 0xff80);
  EXPECT_EQ(bits(1e-300), 0x0000);
  EXPECT_EQ(bits(-1e-300), 0x8000);
  EXPECT_EQ(bits(0x1p-134), 0x0000);             // half of the least positive number: tie to even
  EXPECT_EQ(bits(0x1p-134 * (1 + 0x1p-50)), 1);  // more than half of it
  EXPECT_EQ(bits(std::numeric_limits<double>::infinity()), 0x7f80);
  EXPECT_TRUE(std::isnan(static_cast<float>(round_to<bfloat16>(std::nan("")))));
  const double below_overflow = 0x1.ffp127 * (1 - 0x1p-40), overflow = 0x1.ffp127;
  EXPECT_EQ(bits(below_overflow), 0x7f7f);
  EXPECT_EQ(bits(overflow), 0x7f80);
  const RandomKey key = random_key(1, "test", "rounding");
  for (std::uint64_t i = 0; i < 100000; ++i) {  // against exact distances to the neighbours
    const double x = random_normal(key, i);
    const bfloat16 y = round_to<bfloat16>(x);
    const double distance = std::fabs(static_cast<double>(y) - x);
    for (int step : {-1, 1}) {
      const auto neighbour = bfloat16::from_bits(static_cast<std::uint16_t>(y.bits + step));
      ASSERT_LT(distance, std::fabs(static_cast<double>(neighbour) - x));
    }
  }
}

}  // namespace
}  // namespace fourmi
