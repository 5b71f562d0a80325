// CUDA C++ as far as kernels/cuda uses it, for a C++ compiler: included before each .cu file.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "tests/cuda_on_cpu/cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static thread_local  // blocks of a host thread run one after another
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__

#define threadIdx (::cuda_on_cpu::thread_index())
#define blockIdx (::cuda_on_cpu::block_index())
#define blockDim (::cuda_on_cpu::block_dim())
#define gridDim (::cuda_on_cpu::grid_dim())

inline void __syncthreads() {
  const auto& b = blockDim;
  ::cuda_on_cpu::barrier(0, b.x * b.y * b.z);
}
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  const char none = 0;
  ::cuda_on_cpu::exchange(mask, &none, 1);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  const int base = ::cuda_on_cpu::lane() / width * width;
  return ::cuda_on_cpu::from_lane<T>(::cuda_on_cpu::exchange(mask, &value, sizeof(T)), base + (from & (width - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const int from = ::cuda_on_cpu::lane() ^ bits;
  const auto& all = ::cuda_on_cpu::exchange(mask, &value, sizeof(T));
  return from / width > ::cuda_on_cpu::lane() / width ? value : ::cuda_on_cpu::from_lane<T>(all, from);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int by, int width = 32) {
  const int at = ::cuda_on_cpu::lane();
  const auto& all = ::cuda_on_cpu::exchange(mask, &value, sizeof(T));
  return at % width + by >= width ? value : ::cuda_on_cpu::from_lane<T>(all, at + by);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int by, int width = 32) {
  const int at = ::cuda_on_cpu::lane();
  const auto& all = ::cuda_on_cpu::exchange(mask, &value, sizeof(T));
  return at % width < by ? value : ::cuda_on_cpu::from_lane<T>(all, at - by);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const auto& all = ::cuda_on_cpu::exchange(mask, &predicate, sizeof(predicate));
  unsigned result = 0;
  for (int i = 0; i < 32; ++i)
    if ((mask >> i & 1) != 0 && ::cuda_on_cpu::from_lane<int>(all, i) != 0) result |= 1u << i;
  return result;
}
inline int __any_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) != 0;
}
inline int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) == mask;
}

inline int __popc(unsigned x) {
  return std::popcount(x);
}
inline int __popcll(unsigned long long x) {
  return std::popcount(x);
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline int __clz(int x) {
  return std::countl_zero(static_cast<unsigned>(x));
}
inline unsigned __float_as_uint(float x) {
  return std::bit_cast<unsigned>(x);
}
inline int __float_as_int(float x) {
  return std::bit_cast<int>(x);
}
inline float __uint_as_float(unsigned x) {
  return std::bit_cast<float>(x);
}
inline float __int_as_float(int x) {
  return std::bit_cast<float>(x);
}
inline long long __double_as_longlong(double x) {
  return std::bit_cast<long long>(x);
}
inline double __longlong_as_double(long long x) {
  return std::bit_cast<double>(x);
}
inline float __fmaf_rn(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
inline double __fma_rn(double a, double b, double c) {
  return __builtin_fma(a, b, c);
}
template <class T>
T __ldg(const T* p) {
  return *p;
}

// Threads of a block take turns and blocks follow one another: plain operations are atomic.
template <class T, class U>
T atomicAdd(T* at, U value) {
  const T before = *at;
  *at = static_cast<T>(before + static_cast<T>(value));
  return before;
}
template <class T, class U>
T atomicMax(T* at, U value) {
  const T before = *at;
  *at = std::max(before, static_cast<T>(value));
  return before;
}
template <class T, class U>
T atomicOr(T* at, U value) {
  const T before = *at;
  *at = before | static_cast<T>(value);
  return before;
}
template <class T, class U, class V>
T atomicCAS(T* at, U expected, V value) {
  const T before = *at;
  if (before == static_cast<T>(expected)) *at = static_cast<T>(value);
  return before;
}

// CUDA has these for all pairs of integers and of floats.
template <class A, class B>
constexpr auto min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}
template <class A, class B>
constexpr auto max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}

template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
  const auto& all = ::cuda_on_cpu::exchange(mask, &value, sizeof(T));
  unsigned result = 0;
  for (int i = 0; i < 32; ++i)
    if ((mask >> i & 1) != 0 && ::cuda_on_cpu::from_lane<T>(all, i) == value) result |= 1u << i;
  return result;
}
template <class T>
T __reduce_max_sync(unsigned mask, T value) {
  const auto& all = ::cuda_on_cpu::exchange(mask, &value, sizeof(T));
  for (int i = 0; i < 32; ++i)
    if ((mask >> i & 1) != 0) value = std::max(value, ::cuda_on_cpu::from_lane<T>(all, i));
  return value;
}
template <class T>
T __reduce_min_sync(unsigned mask, T value) {
  const auto& all = ::cuda_on_cpu::exchange(mask, &value, sizeof(T));
  for (int i = 0; i < 32; ++i)
    if ((mask >> i & 1) != 0) value = std::min(value, ::cuda_on_cpu::from_lane<T>(all, i));
  return value;
}
template <class T>
T __reduce_or_sync(unsigned mask, T value) {
  const auto& all = ::cuda_on_cpu::exchange(mask, &value, sizeof(T));
  for (int i = 0; i < 32; ++i)
    if ((mask >> i & 1) != 0) value |= ::cuda_on_cpu::from_lane<T>(all, i);
  return value;
}
/// Four of the eight bytes of low, high: a digit of `selector` each, the lowest first (no signs).
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const unsigned long long all = low | static_cast<unsigned long long>(high) << 32;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) result |= static_cast<unsigned>(all >> (8 * (selector >> (4 * i) & 7)) & 0xff) << (8 * i);
  return result;
}

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
template <class T>
void __stcg(T* to, const T& value) {
  *to = value;
}
/// The larger of the lower and of the upper halves.
inline unsigned __vmaxu2(unsigned a, unsigned b) {
  return std::max(a & 0xffffu, b & 0xffffu) | std::max(a >> 16, b >> 16) << 16;
}
