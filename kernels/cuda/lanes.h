// Threads that work on one row or group together: vectors of 16 bytes, sums and maxima over lanes of a warp and over a
// block. Sums are in a fixed order, so that the same call gives the same bits. For .cu files.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/numerics/bfloat16.h"
#include "kernels/numerics/lanes.h"

namespace fourmi::cuda {

inline constexpr unsigned all_lanes = 0xffffffffu;
inline constexpr int warp_size = 32;

/// n values that one instruction moves: 16 bytes where n is vector_length<X>.
template <class X, int n>
struct alignas(sizeof(X) * n) Vector {
  X value[n];
};
template <class X>
inline constexpr int vector_length = static_cast<int>(16 / sizeof(X));

template <int n, class X>
__device__ Vector<X, n> load(const X* from) {
  return *reinterpret_cast<const Vector<X, n>*>(from);
}
template <int n, class X>
__device__ void store(X* to, const Vector<X, n>& v) {
  *reinterpret_cast<Vector<X, n>*>(to) = v;
}

/// store() into global memory, 16 bytes by one instruction for certain: in long kernels the compiler takes store()'s
/// apart into its elements.
template <int n, class X>
__device__ void store_global(X* to, const Vector<X, n>& v) {
  if constexpr (sizeof(v) == sizeof(uint4))
    __stcg(reinterpret_cast<uint4*>(to), std::bit_cast<uint4>(v));
  else
    store<n>(to, v);
}

/// Is p + i * stride (elements) the address of a vector of n, for all i?
template <int n, class X>
bool is_vector_aligned(const X* p, std::int64_t stride) {
  return reinterpret_cast<std::uintptr_t>(p) % (sizeof(X) * n) == 0 && stride % n == 0;
}

/// Eight consecutive values in f32; from the `valid`-th on zeros. `p` is aligned to its eight, or whole is false.
template <class X>
__device__ void load_eight(const X* p, int valid, bool whole, float (&v)[8]) {
  if (whole && valid >= 8) {
    constexpr int n = vector_length<X>;
#pragma unroll
    for (int part = 0; part < 8 / n; ++part) {
      const Vector<X, n> from = load<n>(p + part * n);
#pragma unroll
      for (int i = 0; i < n; ++i) v[part * n + i] = widen<float>(from.value[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = i < valid ? widen<float>(p[i]) : 0.0f;
  }
}

/// The sum over `width` neighbouring lanes (a power of two), in each of them: halves, then quarters ...
template <int width, class T>
__device__ T lane_group_sum(T x) {
#pragma unroll
  for (int step = width / 2; step > 0; step /= 2) x += __shfl_xor_sync(all_lanes, x, step);
  return x;
}
template <int width>
__device__ std::uint32_t lane_group_max(std::uint32_t x) {
#pragma unroll
  for (int step = width / 2; step > 0; step /= 2) {
    const std::uint32_t other = __shfl_xor_sync(all_lanes, x, step);
    x = x > other ? x : other;
  }
  return x;
}

/// The sum over a block's threads, in each of them; blockDim.x is a multiple of 32. Each warp adds the warps' sums for
/// itself. `shared` has 32 places. May be called again at once.
template <class T>
__device__ T block_sum(T x, T* shared) {
  const unsigned lane = threadIdx.x % warp_size, num_warps = blockDim.x / warp_size;
  x = lane_group_sum<warp_size>(x);
  if (num_warps == 1) return x;
  __syncthreads();
  if (lane == 0) shared[threadIdx.x / warp_size] = x;
  __syncthreads();
  return lane_group_sum<warp_size>(lane < num_warps ? shared[lane] : T{0});
}

}  // namespace fourmi::cuda
