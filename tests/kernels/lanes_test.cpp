#include "kernels/numerics/lanes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/runtime/stream.h"

namespace fourmi {
namespace {

template <class T>
std::vector<T> numbers(int n, int seed) {
  std::vector<T> x(n);
  for (int i = 0; i < n; ++i) x[i] = static_cast<T>(((i * 37 + seed * 101) % 1009 - 500) / 7.0);
  return x;
}

/// The definition, written out: sixteen lanes, then halving.
template <class T>
T defined_sum(const std::vector<T>& x) {
  T lane[16] = {};
  for (std::size_t i = 0; i < x.size(); ++i) lane[i % 16] += x[i];
  for (int half = 8; half >= 1; half /= 2)
    for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
  return lane[0];
}
template <class T>
T defined_dot(const std::vector<T>& x, const std::vector<T>& y) {
  T lane[16] = {};
  for (std::size_t i = 0; i < x.size(); ++i) lane[i % 16] = std::fma(x[i], y[i], lane[i % 16]);
  for (int half = 8; half >= 1; half /= 2)
    for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
  return lane[0];
}

template <class T, class X>
FOURMI_AVX512 T lane_dot_avx512(const X* x, const X* y, std::int64_t n) {
  return lane_dot<T>(x, y, n);
}
template <class T, class X>
FOURMI_AVX512 T lane_sum_avx512(const X* x, std::int64_t n) {
  return lane_sum<T>(x, n);
}

template <class T>
class LanesTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(LanesTest, Scalars);

TYPED_TEST(LanesTest, FollowsTheDefinitionForEveryLengthAndInstructionSet) {
  using T = TypeParam;
  for (int n : {0, 1, 2, 15, 16, 17, 31, 33, 48, 100, 1000, 1023}) {
    const std::vector<T> x = numbers<T>(n, 1), y = numbers<T>(n, 2);
    const T sum = defined_sum(x), dot = defined_dot(x, y);
    const auto check = [&](T got_sum, T got_dot) {
      EXPECT_EQ(0, std::memcmp(&sum, &got_sum, sizeof(T))) << n;
      EXPECT_EQ(0, std::memcmp(&dot, &got_dot, sizeof(T))) << n;
    };
    check(lane_sum<T>(x.data(), n), lane_dot<T>(x.data(), y.data(), n));
    if (has_isa(Isa::avx512)) check(lane_sum_avx512<T>(x.data(), n), lane_dot_avx512<T>(x.data(), y.data(), n));
  }
}

TEST(Lanes, Bfloat16IsWidenedExactly) {
  std::vector<bfloat16> x;
  std::vector<float> wide;
  for (int i = 0; i < 77; ++i) {
    x.push_back(bfloat16(static_cast<float>(i * i) / 3.0f - 100.0f));
    wide.push_back(static_cast<float>(x.back()));
  }
  const float expected = defined_dot(wide, wide), got = lane_dot<float>(x.data(), x.data(), 77);
  EXPECT_EQ(0, std::memcmp(&expected, &got, 4));
  if (has_isa(Isa::avx512)) {
    EXPECT_EQ(expected, (lane_dot_avx512<float>(x.data(), x.data(), 77)));
  }
}

TEST(Lanes, NarrowRoundsToNearestEven) {
  EXPECT_EQ(narrow<bfloat16>(1.0f + 0x1p-8f).bits, 0x3f80);  // a tie: to even
  EXPECT_EQ(narrow<bfloat16>(1.0f + 0x3p-8f).bits, 0x3f82);
  EXPECT_EQ(narrow<bfloat16>(1.0f + 0x1.2p-8f).bits, 0x3f81);
}

}  // namespace
}  // namespace fourmi
