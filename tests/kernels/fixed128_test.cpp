// Fixed-point sums: conversion against a long double formula, ties, limits, and order independence.
#include "kernels/numerics/fixed128.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "kernels/numerics/flush_denormals.h"

namespace fourmi {
namespace {

TEST(Fixed128, LimitsAndRefusal) {
  EXPECT_TRUE(fits_fixed128(0.0));
  EXPECT_TRUE(fits_fixed128(std::nextafter(0x1p40, 0)));
  EXPECT_FALSE(fits_fixed128(0x1p40));
  EXPECT_FALSE(fits_fixed128(-0x1p40));
  EXPECT_FALSE(fits_fixed128(std::numeric_limits<float>::infinity()));
  EXPECT_FALSE(fits_fixed128(-std::numeric_limits<float>::infinity()));
  EXPECT_FALSE(fits_fixed128(std::numeric_limits<float>::quiet_NaN()));
}

TEST(Fixed128, TiesGoToEven) {
  EXPECT_TRUE(to_fixed128(0x1p-64) == 1);
  EXPECT_TRUE(to_fixed128(0x1p-65) == 0);
  EXPECT_TRUE(to_fixed128(0x1.8p-64) == 2);
  EXPECT_TRUE(to_fixed128(0x1.4p-63) == 2);
  EXPECT_TRUE(to_fixed128(-0x1.8p-64) == -2);
  EXPECT_TRUE(to_fixed128(0x1.000002p-65) == 1);
  EXPECT_TRUE(to_fixed128(0x1p-149) == 0);
  EXPECT_TRUE(to_fixed128(-0.0) == 0);
  EXPECT_TRUE(to_fixed128(5e-324) == 0);
  EXPECT_TRUE(to_fixed128(-0x1.fffffep39) == -(static_cast<int128>(0xffffff) << 80));
}

TEST(Fixed128, EveryExponentAgreesWithLongDouble) {
  std::mt19937_64 random(1);
  for (int exponent = -149; exponent < 40; ++exponent)
    for (int i = 0; i < 200; ++i) {
      const float x =
          std::ldexp(1.0F + static_cast<float>(random() >> 41) * 0x1p-23F, exponent) * (i % 2 ? 1.0F : -1.0F);
      const long double exact =
          std::nearbyint(static_cast<long double>(x) * 0x1p64L);  // 64 digits: exact before rounding
      ASSERT_TRUE(static_cast<long double>(to_fixed128(x)) == exact) << x;
    }
}

template <class T>
void round_trip() {
  std::mt19937_64 random(2);
  for (int length = 1; length < 128; ++length)
    for (int i = 0; i < 400; ++i) {
      uint128 m = (static_cast<uint128>(random()) << 64 | random()) >> (128 - length);
      m |= uint128{1} << (length - 1);
      const int digits = sizeof(T) == 4 ? 24 : 53;
      if (i % 4 == 0 && length > digits + 1) {  // make an exact tie
        m = m >> (length - digits - 1) << (length - digits - 1);
        m |= uint128{1} << (length - digits - 1);
      }
      if (m >> 127) continue;
      const auto total = static_cast<int128>(m);
      const T got = from_fixed128<T>(total);
      ASSERT_TRUE(from_fixed128<T>(-total) == -got);
      // Nearest: no neighbour is nearer, and of two equally near ones the even one was taken.
      auto as_integer = [](T v) {
        int e;
        const T f = std::frexp(v, &e);
        const auto s = static_cast<int128>(std::ldexp(f, sizeof(T) == 4 ? 24 : 53));
        const int shift = e - (sizeof(T) == 4 ? 24 : 53) + 64;
        return shift >= 0 ? s << shift : s >> -shift;
      };
      auto distance = [&](T v) {
        const int128 d = as_integer(v) - total;
        return d < 0 ? -d : d;
      };
      if (length > digits && length < 126) {
        const T up = std::nextafter(got, std::numeric_limits<T>::infinity()), down = std::nextafter(got, T{0});
        ASSERT_TRUE(distance(got) <= distance(up) && distance(got) <= distance(down));
        if (distance(got) == distance(up) || distance(got) == distance(down)) {
          int e;
          ASSERT_EQ(std::fmod(std::ldexp(std::frexp(got, &e), digits), T{2}), T{0});
        }
      } else if (length <= digits) {
        ASSERT_TRUE(as_integer(got) == total);
      }
    }
  EXPECT_EQ(from_fixed128<T>(0), T{0});
  EXPECT_EQ(from_fixed128<T>(static_cast<int128>(1) << 64), T{1});
  EXPECT_EQ(from_fixed128<T>(1), static_cast<T>(0x1p-64));
  EXPECT_EQ(from_fixed128<T>(static_cast<int128>(uint128{1} << 127)), static_cast<T>(-0x1p63));
}

TEST(Fixed128, BackToDoubleIsNearestEven) {
  round_trip<double>();
}
TEST(Fixed128, BackToFloatIsNearestEven) {
  round_trip<float>();
}

TEST(Fixed128, FloatIsRoundedOnce) {
  // Exactly between two floats plus one unit: rounding through double first would see a tie and go down to even.
  const int128 total = (static_cast<int128>(1) << 110) + (static_cast<int128>(1) << 86) + 1;
  EXPECT_EQ(from_fixed128<float>(total), static_cast<float>(0x1p46 + 0x1p23));
}

TEST(FlushDenormals, SetsAndRestores) {
  volatile float tiny = 0x1p-126F, half = 0.5F, denormal = 0x1p-140F, big = 0x1p30F;
  constexpr unsigned control = ~0x3fU;  // the lower bits record what happened, and stay
  const unsigned before = _mm_getcsr() & control;
  EXPECT_NE(tiny * half, 0.0F);
  {
    const FlushDenormals guard;
    EXPECT_TRUE(tiny * half == 0.0F);
    EXPECT_TRUE(denormal * big == 0.0F);
  }
  EXPECT_EQ(_mm_getcsr() & control, before);
  EXPECT_NE(denormal * big, 0.0F);
}

}  // namespace
}  // namespace fourmi
