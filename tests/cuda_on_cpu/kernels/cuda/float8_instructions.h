// In place of kernels/cuda/float8_instructions.h: what that does on cards without the instructions.
#pragma once

#include <cstring>
#include <utility>

#include "kernels/cuda/float8_portable.h"

namespace fourmi::cuda {

using portable::e4m3_of_pair;
using portable::pair_of_e4m3;
inline void four_of_e4m3(std::uint32_t bytes, float (&v)[4]) {
  pair_of_e4m3(bytes, v[0], v[1]);
  pair_of_e4m3(bytes >> 16, v[2], v[3]);
}
inline std::uint32_t e4m3_of_four(float a, float b, float c, float d) {
  return e4m3_of_pair(a, b) | e4m3_of_pair(c, d) << 16;
}

using Halves = std::pair<_Float16, _Float16>;
static_assert(sizeof(Halves) == 4);
inline Halves halves_of(std::uint32_t bits) {
  Halves h;
  std::memcpy(static_cast<void*>(&h), &bits, 4);
  return h;
}
inline std::uint32_t bits_of(Halves h) {
  std::uint32_t bits;
  std::memcpy(&bits, &h, 4);
  return bits;
}
inline std::uint32_t halves_of_floats(float low, float high) {
  return bits_of({static_cast<_Float16>(low), static_cast<_Float16>(high)});
}
inline void floats_of_halves(std::uint32_t halves, float& low, float& high) {
  low = static_cast<float>(halves_of(halves).first), high = static_cast<float>(halves_of(halves).second);
}
inline std::uint32_t halves_of_e4m3(std::uint32_t pair) {
  float low, high;
  pair_of_e4m3(pair, low, high);
  return bits_of({static_cast<_Float16>(low), static_cast<_Float16>(high)});
}
inline std::uint32_t e4m3_of_halves(std::uint32_t halves) {
  float low, high;
  floats_of_halves(halves, low, high);
  return e4m3_of_pair(low, high);
}
inline std::uint32_t multiply_halves(std::uint32_t a, std::uint32_t b) {
  const Halves x = halves_of(a), y = halves_of(b);
  return bits_of({x.first * y.first, x.second * y.second});
}
inline std::uint32_t larger_halves(std::uint32_t a, std::uint32_t b) {
  const auto larger = [](_Float16 x, _Float16 y) { return x != x || x > y ? x : y; };
  const Halves x = halves_of(a), y = halves_of(b);
  return bits_of({larger(x.first, y.first), larger(x.second, y.second)});
}

}  // namespace fourmi::cuda
