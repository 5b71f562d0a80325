// Lane sums: the one order in which fourmi sums along a row (docs/numerics.md "Lane sums"). Element i is added to lane
// i % 16, ascending; then lanes are halved: lane[j] += lane[j + 8], then + 4, + 2, + 1. Sixteen lanes are one AVX-512
// vector, two of AVX2, or a plain array: equal bits for every instruction set, by construction.
#pragma once

#include <cstdint>

#include "kernels/numerics/bfloat16.h"
#include "kernels/numerics/math.h"

namespace fourmi {

inline constexpr int num_lanes = 16;

/// Exact widening to the accumulator dtype.
template <class T, class X>
FOURMI_INLINE T widen(X x) {
  if constexpr (sizeof(X) == 2)
    return static_cast<T>(std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16));
  else
    return static_cast<T>(x);
}

/// The one rounding when a value is stored.
template <class X, class T>
FOURMI_INLINE X narrow(T x) {
  return static_cast<X>(x);
}

/// Halves sixteen lanes down to their sum; destroys them.
template <class T>
FOURMI_INLINE T fold_lanes(T* lane) {
  for (int j = 0; j < 8; ++j) lane[j] += lane[j + 8];
  for (int j = 0; j < 4; ++j) lane[j] += lane[j + 4];
  for (int j = 0; j < 2; ++j) lane[j] += lane[j + 2];
  return lane[0] + lane[1];
}

/// Calls step(lane, i) for every i in [0, n) in an order that vectorises; step(T& lane, int64 i) adds element i to its
/// lane.
template <class T, class Step>
FOURMI_INLINE T sum_by_lanes(std::int64_t n, const Step& step) {
  T lane[num_lanes] = {};
  std::int64_t i = 0;
  // `unroll 1` keeps the sixteen lanes a loop, which is what gets vectorised; four rounds share a lane's load and
  // store.
  for (; i + 4 * num_lanes <= n; i += 4 * num_lanes)
#pragma GCC unroll 1
    for (int j = 0; j < num_lanes; ++j) {
      T sum = lane[j];
      step(sum, i + j);
      step(sum, i + num_lanes + j);
      step(sum, i + 2 * num_lanes + j);
      step(sum, i + 3 * num_lanes + j);
      lane[j] = sum;
    }
  for (; i + num_lanes <= n; i += num_lanes)
#pragma GCC unroll 1
    for (int j = 0; j < num_lanes; ++j) step(lane[j], i + j);
  for (int j = 0; i + j < n; ++j) step(lane[j], i + j);
  return fold_lanes(lane);
}

/// Lane sum of x[0..n): additions.
template <class T, class X>
FOURMI_INLINE T lane_sum(const X* x, std::int64_t n) {
  return sum_by_lanes<T>(
      n, [x](T & lane, std::int64_t i) __attribute__((always_inline)) { lane += widen<T>(x[i]); });
}

/// Lane sum of x[i] * y[i]: fused multiply-adds, the products are not rounded.
template <class T, class X, class Y>
FOURMI_INLINE T lane_dot(const X* x, const Y* y, std::int64_t n) {
  return sum_by_lanes<T>(
      n, [ x, y ](T & lane, std::int64_t i)
             __attribute__((always_inline)) { lane = fma(widen<T>(x[i]), widen<T>(y[i]), lane); });
}

}  // namespace fourmi
