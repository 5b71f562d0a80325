// The eight-bit formats against tables of their values in double: nearest by search, ties to the even pattern.
#include "kernels/numerics/float8.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace fourmi {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float quiet_nan = std::numeric_limits<float>::quiet_NaN();

/// What the specification says of a positive pattern: (1 + m / 2^mantissa) 2^(e - bias), denormals for e = 0.
double value_of(int pattern, int mantissa, int bias) {
  const int e = pattern >> mantissa, m = pattern & ((1 << mantissa) - 1);
  return e == 0 ? std::ldexp(m, 1 - bias - mantissa) : std::ldexp((1 << mantissa) + m, e - bias - mantissa);
}

/// Nearest of the finite values, the even pattern in a tie, larger magnitudes saturate.
struct Table {
  std::vector<double> values;  // of positive patterns
  Table(int mantissa, int bias, int largest) {
    for (int p = 0; p <= largest; ++p) values.push_back(value_of(p, mantissa, bias));
  }
  int nearest(double x) const {
    x = std::min(x, values.back());
    std::size_t best = 0;
    for (std::size_t p = 0; p < values.size(); ++p) {
      const double d = std::fabs(values[p] - x), b = std::fabs(values[best] - x);
      if (d < b || (d == b && p % 2 == 0)) best = p;
    }
    return static_cast<int>(best);
  }
};

template <class F>
struct Float8 : ::testing::Test {
  static constexpr bool e4m3 = std::is_same_v<F, float8_e4m3>;
  static constexpr int mantissa = e4m3 ? 3 : 2, bias = e4m3 ? 7 : 15, largest = e4m3 ? 0x7e : 0x7b;
  static constexpr int nan = e4m3 ? 0x7f : 0x7e;
  const Table table{mantissa, bias, largest};

  int expected(float x) const {
    const int sign = std::signbit(x) ? 0x80 : 0;
    if (std::isnan(x)) return sign | nan;
    return sign | table.nearest(std::fabs(static_cast<double>(x)));
  }
};
using Formats = ::testing::Types<float8_e4m3, float8_e5m2>;
TYPED_TEST_SUITE(Float8, Formats);

TYPED_TEST(Float8, EveryPatternBothWays) {
  using F = TypeParam;
  EXPECT_EQ(static_cast<double>(F::largest), this->table.values.back());
  for (int b = 0; b < 256; ++b) {
    const F f = F::from_bits(static_cast<std::uint8_t>(b));
    const int magnitude = b & 0x7f;
    const auto x = static_cast<float>(f);
    EXPECT_EQ(std::signbit(x), b >= 128) << b;
    const auto wide = static_cast<bfloat16>(f);
    if (magnitude <= this->largest) {
      const double value = this->table.values[static_cast<std::size_t>(magnitude)] * (b >= 128 ? -1 : 1);
      EXPECT_EQ(static_cast<double>(x), value) << b;
      EXPECT_EQ(static_cast<double>(f), value) << b;
      EXPECT_EQ(static_cast<double>(wide), value) << b;
      EXPECT_EQ(F(x).bits, b);
    } else if (!this->e4m3 && magnitude == 0x7c) {
      EXPECT_TRUE(std::isinf(x));
      EXPECT_EQ(F(x).bits, (b & 0x80) | this->largest);  // it saturates
    } else {
      EXPECT_TRUE(std::isnan(x) && std::isnan(static_cast<float>(wide))) << b;
      EXPECT_EQ(F(x).bits, (b & 0x80) | this->nan);
    }
  }
}

TYPED_TEST(Float8, MidpointsAndWhatIsNextToThem) {
  using F = TypeParam;
  for (std::size_t p = 0; p + 1 < this->table.values.size(); ++p) {
    const auto middle = static_cast<float>((this->table.values[p] + this->table.values[p + 1]) / 2);
    const auto low = static_cast<int>(p);
    for (const int sign : {0, 0x80}) {
      const float s = sign ? -1 : 1;
      EXPECT_EQ(F(s * middle).bits, sign | (low + low % 2)) << p;
      EXPECT_EQ(F(s * std::nextafterf(middle, 0)).bits, sign | low) << p;
      EXPECT_EQ(F(s * std::nextafterf(middle, infinity)).bits, sign | (low + 1)) << p;
    }
  }
}

TYPED_TEST(Float8, LargeInfiniteAndNotANumber) {
  using F = TypeParam;
  for (const float x : {F::largest, std::nextafterf(F::largest, infinity), F::largest * 1.03F, F::largest * 1.04F,
                        F::largest * 1.2F, 3.4e38F, infinity}) {
    EXPECT_EQ(F(x).bits, this->largest) << x;
    EXPECT_EQ(F(-x).bits, this->largest | 0x80) << x;
  }
  EXPECT_EQ(F(quiet_nan).bits, this->nan);
  EXPECT_EQ(F(-quiet_nan).bits, this->nan | 0x80);
  EXPECT_EQ(F(std::bit_cast<float>(0x7f800001u)).bits, this->nan);
  EXPECT_EQ(F(0x1p-149F).bits, 0);
  EXPECT_EQ(F(-0x1p-149F).bits, 0x80);
  static_assert(F(1.0F).bits == (F::Format::bias << F::Format::mantissa) &&
                static_cast<float>(F(-0.3125F)) == -0.3125F);
}

TYPED_TEST(Float8, EveryBfloat16AgainstASearch) {
  for (int b = 0; b < 65536; ++b) {
    const auto x = static_cast<float>(bfloat16::from_bits(static_cast<std::uint16_t>(b)));
    ASSERT_EQ(TypeParam(x).bits, this->expected(x)) << b << " " << x;
  }
}

TEST(Float8E8m0, EveryPatternBothWays) {
  for (int b = 0; b < 256; ++b) {
    const auto f = float8_e8m0::from_bits(static_cast<std::uint8_t>(b));
    const auto x = static_cast<float>(f);
    if (b == 255)
      EXPECT_TRUE(std::isnan(x));
    else
      EXPECT_EQ(static_cast<double>(x), std::ldexp(1.0, b - 127)) << b;
    EXPECT_EQ(float8_e8m0(x).bits, b);
  }
}

TEST(Float8E8m0, RoundsUpWithinItsRange) {
  for (int b = 1; b < 255; ++b) {
    const auto x = static_cast<float>(float8_e8m0::from_bits(static_cast<std::uint8_t>(b)));
    EXPECT_EQ(float8_e8m0(std::nextafterf(x, infinity)).bits, std::min(b + 1, 254)) << b;
    EXPECT_EQ(float8_e8m0(x * 0.75F).bits, b) << b;
    EXPECT_EQ(float8_e8m0(std::nextafterf(x, 0)).bits, b) << b;
  }
  for (const float tiny : {0.0F, 0x1p-149F, 0x1p-128F, 0x1p-127F}) EXPECT_EQ(float8_e8m0(tiny).bits, 0) << tiny;
  EXPECT_EQ(float8_e8m0(std::nextafterf(0x1p-127F, 1)).bits, 1);
  for (const float bad : {infinity, quiet_nan, -quiet_nan, -0.0F, -1.0F, -infinity})
    EXPECT_EQ(float8_e8m0(bad).bits, 255) << bad;
}

TEST(Bfloat16, EveryPatternBothWays) {
  for (int b = 0; b < 65536; ++b) {
    const auto x = static_cast<float>(bfloat16::from_bits(static_cast<std::uint16_t>(b)));
    const bool signalling = std::isnan(x) && !(b & 0x40);
    ASSERT_EQ(bfloat16(x).bits, signalling ? b | 0x40 : b);
  }
}

/// The rule in double: a group's largest magnitude maps to at most 448, a power of two wastes less than a factor two.
TEST(ScaleOfAmax, AgainstDouble) {
  for (std::uint32_t exponent = 0; exponent < 255; ++exponent)
    for (const std::uint32_t fraction : {0u, 1u, 0x400000u, 0x5fffffu, 0x600000u, 0x600001u, 0x7fffffu}) {
      const auto amax = std::bit_cast<float>(exponent << 23 | fraction);
      if (amax == 0) continue;
      const double exact = static_cast<double>(amax) / 448;
      const float s = scale_of_amax(amax, ScaleKind::f32), p = scale_of_amax(amax, ScaleKind::power_of_two);
      EXPECT_EQ(s, std::max(static_cast<float>(exact), 0x1p-126F)) << amax;  // the quotient in double rounds once more,
      // which changes nothing: 53 > 2 * 24 + 1 bits
      const double t = static_cast<double>(static_cast<float>(exact));
      int e = 0;
      const double m = std::frexp(t, &e);
      const double up = t == 0 ? 0 : m == 0.5 ? std::ldexp(1, e - 1) : std::ldexp(1, e);
      EXPECT_EQ(static_cast<double>(p), std::max(up, 0x1p-126)) << amax;
      EXPECT_EQ(static_cast<float>(power_of_two_scale(amax)), p);
    }
  for (const ScaleKind kind : {ScaleKind::f32, ScaleKind::power_of_two}) {
    EXPECT_EQ(scale_of_amax(0, kind), 1.0F);
    EXPECT_EQ(scale_of_amax(448, kind), 1.0F);
    EXPECT_EQ(scale_of_amax(896, kind), 2.0F);
    for (const float bad : {infinity, quiet_nan, -quiet_nan}) EXPECT_TRUE(std::isnan(scale_of_amax(bad, kind)));
  }
  EXPECT_EQ(scale_of_amax(449, ScaleKind::power_of_two), 2.0F);
  EXPECT_EQ(power_of_two_scale(infinity).bits, 255);
  EXPECT_EQ(power_of_two_scale(quiet_nan).bits, 255);
}

}  // namespace
}  // namespace fourmi
