// Error bounds of the elementary functions against long double (64 bits of mantissa), and their limits.
#include "kernels/numerics/math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/numerics/exp_of_negative.h"
#include "kernels/runtime/stream.h"

namespace fourmi {
namespace {

template <class T>
constexpr T inf = std::numeric_limits<T>::infinity();
template <class T>
constexpr T nan = std::numeric_limits<T>::quiet_NaN();

/// Distance from the exact value in units of the last place of the result's binade (denormals: of the least denormal).
template <class T>
double ulps(T got, long double exact) {
  const int exponent = exact == 0 ? -20000 : std::ilogb(exact);
  const int least = std::numeric_limits<T>::min_exponent - 1;
  const int digits = std::numeric_limits<T>::digits - 1;
  const long double unit = std::ldexp(1.0L, std::max(exponent, least) - digits);
  return static_cast<double>(std::fabs((static_cast<long double>(got) - exact) / unit));
}

template <class T, class F, class G>
double worst(double low, double high, int count, F&& ours, G&& exact) {
  double most = 0;
  for (int i = 0; i <= count; ++i) {
    const T x = static_cast<T>(low + (high - low) * (i + 0.37 * (i % 13) / 13) / count);
    most = std::max(most, ulps<T>(ours(x), exact(static_cast<long double>(x))));
  }
  return most;
}

template <class T>
class MathTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(MathTest, Scalars);

TYPED_TEST(MathTest, ExpIsWithinItsBound) {
  using T = TypeParam;
  const auto ours = [](T x) { return fourmi::exp(x); };
  const auto exact = [](long double x) { return std::exp(x); };
  const double bound = sizeof(T) == 4 ? 1.1 : 1.0;
  const double high = sizeof(T) == 4 ? 88.72 : 709.7, low = sizeof(T) == 4 ? -87.3 : -708.3;
  EXPECT_LE(worst<T>(-1, 1, 400000, ours, exact), bound);
  EXPECT_LE(worst<T>(low, high, 400000, ours, exact), bound);
  EXPECT_LE(worst<T>(low * 1.052, low, 20000, ours, exact), bound) << "denormal results";
}

TYPED_TEST(MathTest, ExpLimits) {
  using T = TypeParam;
  const T least = std::numeric_limits<T>::denorm_min();
  EXPECT_EQ(fourmi::exp(T{0}), T{1});
  EXPECT_EQ(fourmi::exp(T{-0.0}), T{1});
  EXPECT_EQ(fourmi::exp(inf<T>), inf<T>);
  EXPECT_EQ(fourmi::exp(-inf<T>), T{0});
  EXPECT_FALSE(std::signbit(fourmi::exp(-inf<T>)));
  EXPECT_EQ(fourmi::exp(T{-1e30f}), T{0});
  EXPECT_EQ(fourmi::exp(T{1e30f}), inf<T>);
  EXPECT_TRUE(std::isnan(fourmi::exp(nan<T>)));
  EXPECT_TRUE(std::isnan(fourmi::exp(-nan<T>)));
  EXPECT_EQ(fourmi::exp(sizeof(T) == 4 ? T(-103.5) : T(-745)), least);
  EXPECT_EQ(fourmi::exp(sizeof(T) == 4 ? T(-103.99) : T(-745.2)), T{0});
  EXPECT_EQ(fourmi::exp(sizeof(T) == 4 ? T(88.73) : T(709.79)), inf<T>);
}

// Every 61st float that is not above zero, among them all binades and denormal results, and NaN.
TEST(Math, ExpOfNegativeHasTheBitsOfExp) {
  for (std::uint64_t i = 0; i <= 0x7f800001; i += i < 0x7f800000 - 61 ? 61 : 1) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(i) | 0x80000000U);
    const float got = exp_of_negative(x), want = fourmi::exp(x);
    ASSERT_TRUE(std::bit_cast<std::uint32_t>(got) == std::bit_cast<std::uint32_t>(want) || (x != x && got != got)) << x;
  }
  EXPECT_EQ(exp_of_negative(0.0F), 1.0F);
  EXPECT_EQ(exp_of_negative(-745.0), fourmi::exp(-745.0));
}

TYPED_TEST(MathTest, LogIsWithinOneUlp) {
  using T = TypeParam;
  const auto ours = [](T x) { return fourmi::log(x); };
  const auto exact = [](long double x) { return std::log(x); };
  EXPECT_LE(worst<T>(0.5, 2, 400000, ours, exact), 1.0);
  EXPECT_LE(worst<T>(0.999, 1.001, 400000, ours, exact), 1.0);
  EXPECT_LE(worst<T>(1e-3, 1e6, 400000, ours, exact), 1.0);
  for (int e = std::numeric_limits<T>::min_exponent - std::numeric_limits<T>::digits;
       e < std::numeric_limits<T>::max_exponent; ++e)
    for (double m : {1.0, 1.1, 1.4142135, 1.4142136, 1.9}) {
      const T x = std::ldexp(static_cast<T>(m), e);
      if (x == 0) continue;
      EXPECT_LE(ulps<T>(fourmi::log(x), std::log(static_cast<long double>(x))), 1.0) << m << " 2^" << e;
    }
}

TYPED_TEST(MathTest, LogLimits) {
  using T = TypeParam;
  EXPECT_EQ(fourmi::log(T{1}), T{0});
  EXPECT_EQ(fourmi::log(T{0}), -inf<T>);
  EXPECT_EQ(fourmi::log(T{-0.0}), -inf<T>);
  EXPECT_EQ(fourmi::log(inf<T>), inf<T>);
  EXPECT_TRUE(std::isnan(fourmi::log(T{-1})));
  EXPECT_TRUE(std::isnan(fourmi::log(-inf<T>)));
  EXPECT_TRUE(std::isnan(fourmi::log(nan<T>)));
}

TYPED_TEST(MathTest, SigmoidAndSilu) {
  using T = TypeParam;
  const auto exact_sigmoid = [](long double x) { return 1 / (1 + std::exp(-x)); };
  const auto exact_silu = [](long double x) { return x / (1 + std::exp(-x)); };
  EXPECT_LE(worst<T>(
                -80, 80, 400000, [](T x) { return sigmoid(x); }, exact_sigmoid),
            3.0);
  EXPECT_LE(worst<T>(
                -80, 80, 400000, [](T x) { return silu(x); }, exact_silu),
            3.0);
  EXPECT_EQ(sigmoid(T{0}), T{0.5});
  EXPECT_EQ(sigmoid(inf<T>), T{1});
  EXPECT_EQ(sigmoid(-inf<T>), T{0});
  EXPECT_EQ(silu(inf<T>), inf<T>);
  EXPECT_EQ(silu(T{-1e30f}), T{0});
  EXPECT_TRUE(std::isnan(sigmoid(nan<T>)));
  EXPECT_TRUE(std::isnan(silu(nan<T>)));
}

TEST(MathSinCos, WithinOneUlp) {
  for (double span : {0.8, 7.0, 1000.0, 1.1e6, 0x1p30}) {
    EXPECT_LE(
        worst<double>(
            -span, span, 300000, [](double x) { return sincos(x).sin; }, [](long double x) { return std::sin(x); }),
        1.0)
        << span;
    EXPECT_LE(
        worst<double>(
            -span, span, 300000, [](double x) { return sincos(x).cos; }, [](long double x) { return std::cos(x); }),
        1.0)
        << span;
  }
  // Next to the zeros, where the reduction has to give nearly all bits.
  for (std::int64_t n = -700000; n <= 700000; n += 37) {
    const double x = static_cast<double>(n) * 1.5707963267948966;
    EXPECT_LE(ulps<double>(sincos(x).sin, std::sin(static_cast<long double>(x))), 1.0) << n;
    EXPECT_LE(ulps<double>(sincos(x).cos, std::cos(static_cast<long double>(x))), 1.0) << n;
  }
}

TEST(MathSinCos, Limits) {
  EXPECT_EQ(sincos(0.0).sin, 0.0);
  EXPECT_EQ(sincos(0.0).cos, 1.0);
  for (double x : {inf<double>, -inf<double>, nan<double>}) {
    EXPECT_TRUE(std::isnan(sincos(x).sin));
    EXPECT_TRUE(std::isnan(sincos(x).cos));
  }
}

template <class T>
FOURMI_INLINE void all_functions(const T* x, T* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = fourmi::exp(x[i]);
  for (std::int64_t i = 0; i < n; ++i) y[n + i] = fourmi::log(x[i]);
  for (std::int64_t i = 0; i < n; ++i) y[2 * n + i] = sigmoid(x[i]);
  for (std::int64_t i = 0; i < n; ++i) y[3 * n + i] = silu(x[i]);
}
template <class T>
void all_functions_avx2(const T* x, T* y, std::int64_t n) {
  all_functions(x, y, n);
}
template <class T>
FOURMI_AVX512 void all_functions_avx512(const T* x, T* y, std::int64_t n) {
  all_functions(x, y, n);
}

TYPED_TEST(MathTest, VectorisedLoopsGiveTheBitsOfSingleCalls) {
  using T = TypeParam;
  const int n = 4099;
  std::vector<T> x(n), one_by_one(4 * n), looped(4 * n);
  for (int i = 0; i < n; ++i) x[i] = static_cast<T>(-110.0 + 220.0 * ((i * 2654435761u) % 1000003) / 1000003.0);
  x[0] = inf<T>, x[17] = -inf<T>, x[18] = nan<T>, x[19] = 0, x[20] = T{-0.0},
  x[21] = std::numeric_limits<T>::denorm_min();
  for (int i = 0; i < n; ++i) {
    volatile T v = x[i];
    one_by_one[i] = fourmi::exp(T{v}), one_by_one[n + i] = fourmi::log(T{v});
    one_by_one[2 * n + i] = sigmoid(T{v}), one_by_one[3 * n + i] = silu(T{v});
  }
  const auto expect_equal = [&](const char* isa) {
    for (int i = 0; i < 4 * n; ++i) {  // a NaN's sign and payload are not part of the promise
      if (std::isnan(one_by_one[i]) && std::isnan(looped[i])) continue;
      ASSERT_EQ(0, std::memcmp(&one_by_one[i], &looped[i], sizeof(T))) << isa << " " << i / n << " " << x[i % n];
    }
  };
  all_functions_avx2(x.data(), looped.data(), n);
  expect_equal("avx2");
  if (!has_isa(Isa::avx512)) GTEST_SKIP() << "no AVX-512 on this machine";
  std::fill(looped.begin(), looped.end(), nan<T>);
  all_functions_avx512(x.data(), looped.data(), n);
  expect_equal("avx512");
}

}  // namespace
}  // namespace fourmi
