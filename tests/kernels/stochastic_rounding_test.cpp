#include "kernels/numerics/stochastic_rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace fourmi {
namespace {

template <class F>
struct Stochastic : ::testing::Test {
  static constexpr bool e4m3 = std::is_same_v<F, float8_e4m3>;
};
using Formats = ::testing::Types<float8_e4m3, float8_e5m2>;
TYPED_TEST_SUITE(Stochastic, Formats);

constexpr std::uint32_t draws[] = {0, 1, 0x7fffffffu, 0x80000000u, 0xfffffffeu, 0xffffffffu};

TYPED_TEST(Stochastic, ValuesStay) {
  using F = TypeParam;
  constexpr int largest = this->e4m3 ? 0x7e : 0x7b, nan = this->e4m3 ? 0x7f : 0x7e;
  for (int b = 0; b < 256; ++b)
    for (const std::uint32_t random : draws) {
      if ((b & 0x7f) > largest) continue;
      const auto x = static_cast<float>(F::from_bits(static_cast<std::uint8_t>(b)));
      EXPECT_EQ(round_stochastically<F>(x, random).bits, b);
    }
  for (const std::uint32_t random : draws) {
    for (const float x : {F::largest * 1.001F, 1e30F, std::numeric_limits<float>::infinity()}) {
      EXPECT_EQ(round_stochastically<F>(x, random).bits, largest);
      EXPECT_EQ(round_stochastically<F>(-x, random).bits, largest | 0x80);
    }
    EXPECT_EQ(round_stochastically<F>(std::numeric_limits<float>::quiet_NaN(), random).bits, nan);
  }
}

/// Between any two neighbours: up exactly for the draws that the fraction says, to 2^-20.
TYPED_TEST(Stochastic, TheThresholdIsTheFraction) {
  using F = TypeParam;
  constexpr int largest = this->e4m3 ? 0x7e : 0x7b;
  for (int p = 0; p < largest; ++p) {
    const auto low = static_cast<double>(F::from_bits(static_cast<std::uint8_t>(p)));
    const auto high = static_cast<double>(F::from_bits(static_cast<std::uint8_t>(p + 1)));
    for (const double wanted : {0x1p-20, 0x1p-18, 0.1, 0.25, 0.5, 0.7, 1 - 0x1p-18}) {
      const auto x = static_cast<float>(low + wanted * (high - low));
      const double fraction = (static_cast<double>(x) - low) / (high - low);
      const auto up_from = [&](double draw) {  // is it rounded up for this draw in [0, 1)?
        const auto random = static_cast<std::uint32_t>(draw * 0x1p32);
        const F up = round_stochastically<F>(x, random), down = round_stochastically<F>(-x, random);
        EXPECT_EQ(up.bits | 0x80, down.bits);
        EXPECT_TRUE(up.bits == p || up.bits == p + 1) << p;
        return up.bits == p + 1;
      };
      if (fraction == 0 || fraction >= 1) continue;
      EXPECT_TRUE(up_from(std::min(1 - fraction + 0x1p-20, 1 - 0x1p-32))) << p << " " << wanted;
      EXPECT_FALSE(up_from(std::max(1 - fraction - 0x1p-20, 0.0)) && fraction < 1 - 0x1p-20) << p << " " << wanted;
    }
  }
}

TYPED_TEST(Stochastic, TheMeanOfManyDrawsIsTheNumber) {
  using F = TypeParam;
  const RandomKey key = random_key(7, "test", "stochastic");
  constexpr std::uint64_t n = 40000;
  for (const float x : {0.3F, -0.07F, 1.01F, 300.0F, 0x1.8p-17F, 0x1.2p-8F, -0x1.fp-10F, 0x1p-12F}) {
    const F nearest(x);
    double sum = 0, squares = 0;
    for (std::uint64_t i = 0; i < n; ++i) {
      const auto y = static_cast<double>(round_stochastically<F>(x, key, i));
      sum += y;
      squares += (y - static_cast<double>(x)) * (y - static_cast<double>(x));
    }
    const double error = sum / n - static_cast<double>(x), deviation = std::sqrt(squares / n / n);
    EXPECT_LE(std::fabs(error), 4 * deviation) << x;
    EXPECT_EQ(deviation > 0, static_cast<float>(nearest) != x) << x;
  }
}

TEST(StochasticBfloat16, KeepsValuesAndTheMean) {
  for (int b = 0; b < 65536; ++b) {
    const auto x = static_cast<float>(bfloat16::from_bits(static_cast<std::uint16_t>(b)));
    for (const std::uint32_t random : draws)
      ASSERT_EQ(round_stochastically<bfloat16>(x, random).bits, bfloat16(x).bits);
  }
  const float x = 1 + 0x3p-9F;  // three quarters of the way up
  EXPECT_EQ(round_stochastically<bfloat16>(x, 0x3fffffffu).bits, 0x3f80 + 0);
  EXPECT_EQ(round_stochastically<bfloat16>(x, 0x40000000u).bits, 0x3f80 + 1);
  EXPECT_EQ(round_stochastically<bfloat16>(0x1p-149F, 0xfffeffffu).bits, 0);
  EXPECT_EQ(round_stochastically<bfloat16>(0x1p-149F, 0xffff0000u).bits, 1);
}

TEST(StochasticRounding, DependsOnKeyAndIndexOnly) {
  const RandomKey a = random_key(1, "test", "a"), b = random_key(1, "test", "b");
  int differ = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const auto random = static_cast<std::uint32_t>(random_bits(a, i) >> 32);
    const auto x = 1 + static_cast<float>(i) / 8000;
    EXPECT_EQ(round_stochastically<float8_e4m3>(x, a, i).bits, round_stochastically<float8_e4m3>(x, random).bits);
    differ += round_stochastically<float8_e4m3>(x, a, i).bits != round_stochastically<float8_e4m3>(x, b, i).bits;
  }
  EXPECT_GT(differ, 200);
}

}  // namespace
}  // namespace fourmi
