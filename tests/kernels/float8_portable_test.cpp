// e4m3 two at a time, as cards without the instructions and the emulated card do it, against the format's definition.
#include "kernels/cuda/float8_portable.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/kernels/float8_test_data.h"

namespace fourmi {
namespace {

using cuda::portable::e4m3_of_pair;
using cuda::portable::pair_of_e4m3;

float float_of(std::uint32_t bits) {
  return std::bit_cast<float>(bits);
}

TEST(Float8Portable, EveryByteHasItsValueInEitherPlace) {
  for (std::uint32_t pair = 0; pair < 0x10000; ++pair) {
    float low, high;
    pair_of_e4m3(pair | 0xabcd0000u, low, high);
    for (const auto& [bits, value] : {std::pair{pair & 0xff, low}, {pair >> 8, high}}) {
      const double expected = test::e4m3_value(static_cast<std::uint8_t>(bits));
      if (std::isnan(expected))
        EXPECT_TRUE(std::isnan(value)) << bits;
      else
        EXPECT_TRUE(value == expected && std::signbit(value) == (bits >> 7 != 0)) << bits;
    }
  }
}

/// Of each interval between neighbours: both ends, the middle, which goes to the even one, and the floats beside it.
TEST(Float8Portable, RoundsToNearestEven) {
  for (std::uint8_t bits = 0; bits < 0x7e; ++bits) {
    const auto next = static_cast<std::uint8_t>(bits + 1);
    const auto lower = static_cast<float>(test::e4m3_value(bits)), upper = static_cast<float>(test::e4m3_value(next));
    const float middle = (lower + upper) / 2;  // exact
    const std::uint8_t even = bits % 2 == 0 ? bits : next;
    EXPECT_EQ(e4m3_of_pair(lower, -upper), bits | (next | 0x80u) << 8);
    EXPECT_EQ(e4m3_of_pair(middle, -middle), even | (even | 0x80u) << 8);
    EXPECT_EQ(e4m3_of_pair(std::nextafter(middle, lower), std::nextafter(middle, upper)), bits | next << 8);
  }
}

TEST(Float8Portable, WhatIsTooLargeTooSmallOrNoNumber) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(e4m3_of_pair(448, -448.001F), 0xfe7eu);
  EXPECT_EQ(e4m3_of_pair(464, 480), 0x7e7eu);
  EXPECT_EQ(e4m3_of_pair(infinity, -infinity), 0xfe7eu);
  EXPECT_EQ(e4m3_of_pair(std::numeric_limits<float>::max(), -1e30F), 0xfe7eu);
  EXPECT_EQ(e4m3_of_pair(0.0F, -0.0F), 0x8000u);
  EXPECT_EQ(e4m3_of_pair(0x1p-10F, -0x1p-10F), 0x8000u);  // half of the least: to even
  EXPECT_EQ(e4m3_of_pair(float_of(1), float_of(0x80000001u)), 0x8000u);
  // Every NaN, quiet and signalling, of both signs, becomes the positive one.
  for (const std::uint32_t nan : {0x7f800001u, 0x7fc00000u, 0x7fffffffu}) {
    EXPECT_EQ(e4m3_of_pair(float_of(nan), 1), 0x387fu);
    EXPECT_EQ(e4m3_of_pair(1, float_of(nan | 0x80000000u)), 0x7f38u);
  }
}

/// Every f16, which is what e4m3_of_halves rounds: the nearest by search.
TEST(Float8Portable, EveryHalfGoesToTheNearest) {
  for (std::uint32_t half = 0; half < 0x7c00; ++half) {
    const auto exponent = static_cast<int>(half >> 10);
    const float x = exponent ? std::ldexp(static_cast<float>(1024 + half % 1024), exponent - 25)
                             : std::ldexp(static_cast<float>(half), -24);
    std::uint8_t nearest = 0;
    for (std::uint8_t b = 1; b < 0x7f; ++b) {
      const double now = std::abs(test::e4m3_value(nearest) - x), then = std::abs(test::e4m3_value(b) - x);
      if (then < now || (then == now && b % 2 == 0)) nearest = b;
    }
    ASSERT_EQ(e4m3_of_pair(x, -x), nearest | (nearest | 0x80u) << 8) << x;
  }
}

}  // namespace
}  // namespace fourmi
