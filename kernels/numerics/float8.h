// Eight-bit floats (Micikevicius et al. 2022, "FP8 formats for deep learning"; OCP 8-bit and microscaling
// specifications). Conversions are ours so that every path rounds alike: nearest, ties to even, and no value ever
// becomes an infinity.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/numerics/bfloat16.h"

namespace fourmi {

namespace detail {

/// Sign, exponent, `mantissa` bits; denormals. Above `largest_bits` lie infinity, if the format has one, and NaN.
template <int mantissa_, int bias_, std::uint8_t largest_bits_, bool has_infinity, std::uint8_t nan_>
struct Float8Format {
  static constexpr int mantissa = mantissa_, bias = bias_, dropped = 23 - mantissa_;
  static constexpr std::uint32_t largest_bits = largest_bits_, nan = nan_;
  /// Added to a float's exponent, in units of this format's last mantissa bit.
  static constexpr std::uint32_t rebias = std::uint32_t{127 - bias_} << mantissa_;
  static constexpr std::uint32_t least_normal = std::uint32_t{128 - bias_} << 23;  ///< as bits of a float
  static constexpr std::uint32_t largest = (largest_bits + rebias) << dropped;     ///< alike

  static constexpr float power_of_two(int exponent) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23);
  }
  static constexpr float least_denormal = power_of_two(1 - bias - mantissa);

  static constexpr std::uint8_t signed_bits(std::uint32_t sign, std::uint32_t magnitude) {
    return static_cast<std::uint8_t>(sign >> 24 | magnitude);
  }
  static constexpr std::uint8_t round(float x) {
    const std::uint32_t u = std::bit_cast<std::uint32_t>(x), sign = u & 0x80000000u;
    std::uint32_t magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return signed_bits(sign, nan);
    if (magnitude > largest) magnitude = largest;
    if (magnitude < least_normal) {
      // The sum's last mantissa bit weighs as much as the least denormal: the addition rounds.
      constexpr float magic = power_of_two(23) * least_denormal;
      const float shifted = std::bit_cast<float>(magnitude) + magic;
      return signed_bits(sign, std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(magic));
    }
    constexpr std::uint32_t below_half = (1u << (dropped - 1)) - 1;
    return signed_bits(sign, ((magnitude + below_half + ((magnitude >> dropped) & 1u)) >> dropped) - rebias);
  }
  /// Rounds up in magnitude with the probability of the fraction that is cut off, for uniform `random`: exact where
  /// the result is normal, to 2^-32 where it is denormal.
  static constexpr std::uint8_t round(float x, std::uint32_t random) {
    const std::uint32_t u = std::bit_cast<std::uint32_t>(x), sign = u & 0x80000000u;
    std::uint32_t magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return signed_bits(sign, nan);
    if (magnitude > largest) magnitude = largest;
    std::uint64_t fixed = 0;  // the result, with 32 more bits
    if (magnitude >= least_normal) {
      fixed = (std::uint64_t{magnitude} << (32 - dropped)) - (std::uint64_t{rebias} << 32);
    } else {
      // Exact: a float times a power of two that leaves it in range; its integer part is below 2^(mantissa + 32).
      fixed = static_cast<std::uint64_t>(static_cast<double>(std::bit_cast<float>(magnitude)) /
                                         static_cast<double>(least_denormal) * 0x1p32);
    }
    return signed_bits(sign, static_cast<std::uint32_t>((fixed + random) >> 32));
  }
  static constexpr float widen(std::uint8_t bits) {
    const std::uint32_t sign = std::uint32_t{bits & 0x80u} << 24, magnitude = bits & 0x7fu;
    std::uint32_t value = (magnitude + rebias) << dropped;
    if (magnitude < (1u << mantissa)) {
      value = std::bit_cast<std::uint32_t>(static_cast<float>(magnitude) * least_denormal);
    } else if (magnitude > largest_bits) {
      value = has_infinity && magnitude == largest_bits + 1 ? 0x7f800000u : 0x7fc00000u;
    }
    return std::bit_cast<float>(sign | value);
  }
};

}  // namespace detail

/// Four exponent bits, three of mantissa, no infinity ("fn"): largest 448, least normal 2^-6, least 2^-9, NaN 0x7f and
/// 0xff.
struct float8_e4m3 {
  using Format = detail::Float8Format<3, 7, 0x7e, false, 0x7f>;
  static constexpr float largest = 448;
  std::uint8_t bits = 0;

  float8_e4m3() = default;
  /// Nearest even. Magnitudes above 448, infinity too, become 448 of their sign; NaN stays NaN of its sign.
  explicit constexpr float8_e4m3(float x) : bits(Format::round(x)) {}
  static constexpr float8_e4m3 from_bits(std::uint8_t b) {
    float8_e4m3 r;
    r.bits = b;
    return r;
  }
  explicit constexpr operator float() const { return Format::widen(bits); }
  explicit constexpr operator double() const { return static_cast<double>(Format::widen(bits)); }
  explicit constexpr operator bfloat16() const { return bfloat16(Format::widen(bits)); }  // exact
};

/// Five exponent bits, two of mantissa: largest finite 57344, least normal 2^-14, least 2^-16, infinity 0x7c, NaN
/// above.
struct float8_e5m2 {
  using Format = detail::Float8Format<2, 15, 0x7b, true, 0x7e>;
  static constexpr float largest = 57344;
  std::uint8_t bits = 0;

  float8_e5m2() = default;
  /// Nearest even. Magnitudes above 57344, infinity too, become 57344 of their sign; NaN becomes 0x7e of its sign.
  explicit constexpr float8_e5m2(float x) : bits(Format::round(x)) {}
  static constexpr float8_e5m2 from_bits(std::uint8_t b) {
    float8_e5m2 r;
    r.bits = b;
    return r;
  }
  explicit constexpr operator float() const { return Format::widen(bits); }
  explicit constexpr operator double() const { return static_cast<double>(Format::widen(bits)); }
  explicit constexpr operator bfloat16() const { return bfloat16(Format::widen(bits)); }  // exact
};

/// A power of two: 2^(bits - 127); 0xff is NaN. No zero, no sign.
struct float8_e8m0 {
  std::uint8_t bits = 127;

  float8_e8m0() = default;
  /// Up to the next power of two, within [2^-127, 2^127]. NaN, infinity and negative numbers (-0 too) become NaN.
  explicit constexpr float8_e8m0(float x) : bits(round_up(x)) {}
  static constexpr float8_e8m0 from_bits(std::uint8_t b) {
    float8_e8m0 r;
    r.bits = b;
    return r;
  }
  explicit constexpr operator float() const {
    if (bits == 0) return std::bit_cast<float>(0x00400000u);  // a denormal
    return std::bit_cast<float>(bits == 0xff ? 0x7fc00000u : std::uint32_t{bits} << 23);
  }

 private:
  static constexpr std::uint8_t round_up(float x) {
    const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
    if (u >= 0x7f800000u) return 0xff;
    if (u <= 0x00400000u) return 0;
    const std::uint32_t up = (u + 0x007fffffu) >> 23;
    return static_cast<std::uint8_t>(up < 254 ? up : 254);
  }
};
static_assert(sizeof(float8_e4m3) == 1 && sizeof(float8_e5m2) == 1 && sizeof(float8_e8m0) == 1);

/// How a group's decode scale s (value = element * s) follows from its largest magnitude.
enum class ScaleKind : std::uint8_t {
  f32,           ///< amax / 448, at least 2^-126
  power_of_two,  ///< that, rounded up to a power of two
};

/// amax / 448 up to the next power of two, at least 2^-126; 1 for amax = 0, NaN where amax is not finite.
constexpr float8_e8m0 power_of_two_scale(float amax) {
  if (amax == 0) return {};
  const auto s = float8_e8m0(amax / float8_e4m3::largest);
  return s.bits == 0 ? float8_e8m0::from_bits(1) : s;
}

/// The decode scale of a group of e4m3 elements whose largest magnitude is amax >= 0 (docs/numerics.md "FP8"). 1 for
/// amax = 0. NaN where amax is not finite: so all that reads the group is NaN.
constexpr float scale_of_amax(float amax, ScaleKind kind) {
  if (kind == ScaleKind::power_of_two) return static_cast<float>(power_of_two_scale(amax));
  if (amax == 0) return 1;
  const std::uint32_t u = std::bit_cast<std::uint32_t>(amax);
  if ((u & 0x7fffffffu) >= 0x7f800000u) return std::bit_cast<float>(0x7fc00000u);
  const float s = amax / float8_e4m3::largest;
  return s < 0x1p-126f ? 0x1p-126f : s;
}

/// A decode scale and 1 / scale.
struct GroupScale {
  float scale, inverse;
};

/// By scale_of_amax, from the bits of amax; powers of two without a division (448 is 7/4 of 2^8, and no quotient of
/// floats that is not a power of two rounds to one here; a test compares them).
constexpr GroupScale scale_of_bits(std::uint32_t amax, ScaleKind kind) {
  if (amax == 0) return {1, 1};
  if (amax >= 0x7f800000u) {
    const float nan = std::bit_cast<float>(0x7fc00000u);
    return {nan, nan};
  }
  if (kind == ScaleKind::power_of_two) {
    const std::uint32_t exponent = (amax >> 23) + ((amax & 0x7fffffu) > 0x600000u ? 1 : 0);
    const std::uint32_t e = exponent > 9 ? exponent - 8 : 1;
    return {std::bit_cast<float>(e << 23), std::bit_cast<float>((254 - e) << 23)};
  }
  const float scale = scale_of_amax(std::bit_cast<float>(amax), kind);
  return {scale, 1 / scale};
}

}  // namespace fourmi
