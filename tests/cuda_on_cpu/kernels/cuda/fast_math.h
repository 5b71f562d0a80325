// In place of kernels/cuda/fast_math.h: as far from the function as PTX lets the instructions be, this way or that by
// the last bit of the argument, so that no test here asks for more than a card promises.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace fourmi::cuda {

namespace fast_math {

inline float without_denormals(float x) {
  return std::fabs(x) < 0x1p-126F ? std::copysign(0.0F, x) : x;
}
inline float off_by(double y, double error, float x) {
  return without_denormals(
      static_cast<float>(y * ((std::bit_cast<std::uint32_t>(x) & 1) != 0 ? 1 + error : 1 - error)));
}

}  // namespace fast_math

inline float fast_exp2(float x) {
  x = fast_math::without_denormals(x);
  return x == 0 ? 1 : fast_math::off_by(std::exp2(static_cast<double>(x)), 0x1p-22, x);
}
inline float fast_reciprocal(float x) {
  x = fast_math::without_denormals(x);
  return std::fabs(x) == 1 ? x : fast_math::off_by(1 / static_cast<double>(x), 0x1p-24, x);  // and a half by rounding
}

}  // namespace fourmi::cuda
