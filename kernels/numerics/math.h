// Elementary functions for float and double, made of IEEE operations and fused multiply-add only: no libm, whose
// variants are picked by CPU, so that every machine and instruction set gets equal bits (docs/numerics.md "Elementary
// functions"). Branch-free: a loop over any of them is vectorised by the compiler.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "kernels/numerics/target.h"

namespace fourmi {

#ifdef __CUDA_ARCH__  // the same IEEE operations under the device's names
FOURMI_INLINE float fma(float a, float b, float c) {
  return __fmaf_rn(a, b, c);
}
FOURMI_INLINE double fma(double a, double b, double c) {
  return __fma_rn(a, b, c);
}
FOURMI_INLINE float square_root(float x) {
  return __fsqrt_rn(x);
}
FOURMI_INLINE double square_root(double x) {
  return __dsqrt_rn(x);
}
FOURMI_INLINE float magnitude(float x) {
  return fabsf(x);
}
FOURMI_INLINE double magnitude(double x) {
  return fabs(x);
}
#else
FOURMI_INLINE float fma(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
FOURMI_INLINE double fma(double a, double b, double c) {
  return __builtin_fma(a, b, c);
}
FOURMI_INLINE float square_root(float x) {
  return __builtin_sqrtf(x);
}
FOURMI_INLINE double square_root(double x) {
  return __builtin_sqrt(x);
}
FOURMI_INLINE float magnitude(float x) {
  return __builtin_fabsf(x);
}
FOURMI_INLINE double magnitude(double x) {
  return __builtin_fabs(x);
}
#endif

namespace detail {

/// Coefficients. They come from functions, not from static arrays: those have no address on a device.
template <class T, std::size_t n>
struct Terms {
  T term[n];
};

template <class T>
struct MathOf;

template <>
struct MathOf<float> {
  using Bits = std::uint32_t;
  static constexpr int mantissa = 23;
  static constexpr float round_magic = 0x1.8p23f;  ///< x + magic - magic rounds x to an integer, ties to even
  static constexpr float log2_e = 0x1.715476p0f, ln2_high = 0x1.62e43p-1f, ln2_low = -0x1.05c610p-29f;
  // Beyond these exp has long become 0 (below half of the least denormal) or infinity.
  static constexpr float exp_low = -104.0f, exp_high = 89.0f;
  // (exp(r) - 1 - r) / r^2 on |r| <= ln(2)/2, highest power first; interpolated at Chebyshev nodes, error 1.1e-8.
  static constexpr Terms<float, 5> exp_terms() {
    return {{0x1.6d1106p-10f, 0x1.120b6cp-7f, 0x1.55551ap-5f, 0x1.5554dcp-3f, 0.5f}};
  }
  static constexpr float log_ln2_high = 0x1.62e4p-1f, log_ln2_low = 0x1.7f7d1cp-20f;  // k * high is exact
  static constexpr Bits sqrt_half = 0x3f3504f3u;
  // (2 atanh(s) / s - 2) / s^2 in powers of s^2 on s <= 0.1716, highest first; error 6e-10 of the whole.
  static constexpr Terms<float, 4> log_terms() {
    return {{0.23330964148044586f, 0.28550803661346436f, 0.4000012278556824f, 0.6666666865348816f}};
  }
};

template <>
struct MathOf<double> {
  using Bits = std::uint64_t;
  static constexpr int mantissa = 52;
  static constexpr double round_magic = 0x1.8p52;
  static constexpr double log2_e = 0x1.71547652b82fep0, ln2_high = 0x1.62e42fefa39efp-1,
                          ln2_low = 0x1.abc9e3b39803fp-56;
  static constexpr double exp_low = -746.0, exp_high = 710.0;
  // 1/13! ... 1/2!: the first term left out is below 2^-57 of the result.
  static constexpr Terms<double, 12> exp_terms() {
    return {{1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0,
             1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5}};
  }
  static constexpr double log_ln2_high = 0x1.62e42fefa38p-1, log_ln2_low = 0x1.ef35793c7673p-45;
  static constexpr Bits sqrt_half = 0x3fe6a09e667f3bcdu;
  // 2/25, 2/23 ... 2/3
  static constexpr Terms<double, 12> log_terms() {
    return {{2.0 / 25.0, 2.0 / 23.0, 2.0 / 21.0, 2.0 / 19.0, 2.0 / 17.0, 2.0 / 15.0, 2.0 / 13.0, 2.0 / 11.0, 2.0 / 9.0,
             2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0}};
  }
};

/// Horner's rule in fma, highest power first.
template <class T, std::size_t n>
FOURMI_INLINE T polynomial(Terms<T, n> terms, T x) {
  T sum = terms.term[0];
#pragma GCC unroll 16
  for (std::size_t i = 1; i < n; ++i) sum = fma(sum, x, terms.term[i]);
  return sum;
}

}  // namespace detail

/// e^x, at most 1.1 ulp off (float; double 1.0), denormal results rounded once. exp(0) = 1, exp(-inf) = 0, exp(inf) =
/// inf, NaN stays NaN.
template <class T>
FOURMI_INLINE T exp(T x) {
  using C = detail::MathOf<T>;
  using Bits = typename C::Bits;
  x = x < C::exp_low ? C::exp_low : x;
  x = x > C::exp_high ? C::exp_high : x;
  const T shifted = fma(x, C::log2_e, C::round_magic);  // its low bits hold n = round(x / ln 2)
  const T n = shifted - C::round_magic;
  const T r = fma(-n, C::ln2_low, fma(-n, C::ln2_high, x));
  const T y = T{1} + fma(r * r, detail::polynomial(C::exp_terms(), r), r);
  // 2^n in two steps, since 2^n alone may be out of range while the result is not.
  constexpr Bits bias = (Bits{1} << (sizeof(T) == 4 ? 7 : 10)) - 1;
  const Bits two_n_biased = std::bit_cast<Bits>(shifted) - std::bit_cast<Bits>(C::round_magic) + 2 * bias;
  const Bits first = two_n_biased >> 1, second = two_n_biased - first;
  return y * std::bit_cast<T>(first << C::mantissa) * std::bit_cast<T>(second << C::mantissa);
}

/// Natural logarithm, at most 1 ulp off, denormal arguments included. log(0) = -inf, log(x < 0) = NaN, log(inf) = inf.
template <class T>
FOURMI_INLINE T log(T x) {
  using C = detail::MathOf<T>;
  using Bits = typename C::Bits;
  constexpr T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  constexpr Bits one = std::bit_cast<Bits>(T{1}), bias = one >> C::mantissa;
  constexpr Bits mantissa_mask = (Bits{1} << C::mantissa) - 1;
  const bool denormal = x < std::numeric_limits<T>::min();
  const T scaled = denormal ? x * (T{2} / std::numeric_limits<T>::epsilon()) : x;  // by 2^(mantissa + 1)
  // x = 2^k m with m in [sqrt(1/2), sqrt(2)).
  const Bits lifted = std::bit_cast<Bits>(scaled) + (one - C::sqrt_half);
  const Bits k_biased = (lifted >> C::mantissa) - (denormal ? C::mantissa + 1 : 0);
  // Small integers become floating point through the low bits of the magic number: AVX2 has no 64-bit conversion.
  const T k = std::bit_cast<T>(std::bit_cast<Bits>(C::round_magic) + k_biased - bias) - C::round_magic;
  const T f = std::bit_cast<T>((lifted & mantissa_mask) + C::sqrt_half) - T{1};
  // log(1 + f) = 2 atanh(s) = f - s (f - s^2 P(s^2)) with s = f / (2 + f): the correction is small beside f.
  const T s = f / (T{2} + f), z = s * s;
  const T correction = s * fma(-z, detail::polynomial(C::log_terms(), z), f);
  const T finite = fma(k, C::log_ln2_high, f - fma(-k, C::log_ln2_low, correction));
  const T upper = x < inf ? finite : x;  // infinity and NaN stay
  return x > T{0} ? upper : (x < T{0} ? nan : (x == T{0} ? -inf : x));
}

/// Logistic function 1 / (1 + e^-x): 0 and 1 at the infinities, NaN stays NaN.
template <class T>
FOURMI_INLINE T sigmoid(T x) {
  return T{1} / (T{1} + fourmi::exp(-x));
}

/// x * sigmoid(x), formed as x / (1 + e^-x).
template <class T>
FOURMI_INLINE T silu(T x) {
  return x / (T{1} + fourmi::exp(-x));
}

struct SinCos {
  double sin, cos;
};

/// Sine and cosine, at most 1 ulp off for |x| <= 2^30 (positions times frequencies are far smaller). NaN for NaN and
/// infinity.
FOURMI_INLINE SinCos sincos(double x) {
  constexpr double two_over_pi = 0x1.45f306dc9c883p-1;
  constexpr double part1 = 0x1.921fb54442d18p0, part2 = 0x1.1a62633145c07p-54, part3 = -0x1.f1976b7ed8fbcp-110;
  constexpr double magic = detail::MathOf<double>::round_magic;
  constexpr detail::Terms<double, 8> sin_terms{{1.0 / 355687428096000.0, -1.0 / 1307674368000.0, 1.0 / 6227020800.0,
                                                -1.0 / 39916800.0, 1.0 / 362880.0, -1.0 / 5040.0, 1.0 / 120.0,
                                                -1.0 / 6.0}};
  constexpr detail::Terms<double, 8> cos_terms{{-1.0 / 6402373705728000.0, 1.0 / 20922789888000.0, -1.0 / 87178291200.0,
                                                1.0 / 479001600.0, -1.0 / 3628800.0, 1.0 / 40320.0, -1.0 / 720.0,
                                                1.0 / 24.0}};
  // r + tail = x - n pi/2. The first step is exact: x and n * part1 are multiples of an ulp that fits r1. The second
  // keeps what its subtraction and its product round off.
  const double shifted = fma(x, two_over_pi, magic), n = shifted - magic;
  const double r1 = fma(-n, part1, x), product = n * part2;
  const double r = r1 - product, shift = r - r1;
  const double lost = (r1 - (r - shift)) - (product + shift);
  const double tail = fma(-n, part3, lost - fma(n, part2, -product));
  const double z = r * r;
  const double sin_r = r + fma(r * z, detail::polynomial(sin_terms, z), fma(-0.5 * z, tail, tail));
  const double half = 0.5 * z, top = 1.0 - half;
  const double cos_r = top + fma(z * z, detail::polynomial(cos_terms, z), fma(-r, tail, (1.0 - top) - half));
  const std::uint64_t quadrant = std::bit_cast<std::uint64_t>(shifted);
  const bool swap = (quadrant & 1) != 0;
  const std::uint64_t sin_sign = (quadrant & 2) << 62, cos_sign = ((quadrant + 1) & 2) << 62;
  const double s = swap ? cos_r : sin_r, c = swap ? sin_r : cos_r;
  return {std::bit_cast<double>(std::bit_cast<std::uint64_t>(s) ^ sin_sign),
          std::bit_cast<double>(std::bit_cast<std::uint64_t>(c) ^ cos_sign)};
}

}  // namespace fourmi
