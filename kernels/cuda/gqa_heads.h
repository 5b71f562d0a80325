// How lanes share the heads of grouped-query attention's joined projection: a head has a power of two of neighbouring
// lanes, and a lane n of its pairs (x_j, x_j+half), or every so many more where a head is larger than its lanes. For
// .cu files.
#pragma once

#include "kernels/cuda/rotary_pairs.h"
#include "kernels/ops/gqa_assemble.h"

namespace fourmi::cuda {

/// A power of two of lanes, and this thread's place among them.
struct HeadLanes {
  int bits = 0;

  HeadLanes() = default;
  /// For a head of so many pairs, n to a lane.
  HeadLanes(std::int64_t half, int n) {
    while (count() < warp_size && count() * n < half) ++bits;
  }
  __host__ __device__ int count() const { return 1 << bits; }
  __device__ int lane() const { return static_cast<int>(threadIdx.x) & (count() - 1); }
  /// Which head of the block's is this thread's, of how many.
  __device__ int head() const { return static_cast<int>(threadIdx.x) >> bits; }
  __device__ int num_heads() const { return static_cast<int>(blockDim.x) >> bits; }
};

/// The sum over the lanes of a head, in each of them. All lanes of the warp call it.
template <class T>
__device__ T head_sum(T x, HeadLanes lanes) {
  for (int apart = lanes.count() / 2; apart > 0; apart /= 2) x += __shfl_xor_sync(all_lanes, x, apart);
  return x;
}

/// The lower and the upper columns of n pairs from pair j on, as they lie in memory.
template <class X, int n>
struct HalfPairs {
  Packed<X, n> low, high;

  __device__ void load(const X* head, int j, int half) {
    low = load_packed<n>(head + j), high = load_packed<n>(head + half + j);
  }
  __device__ void store(X* head, int j, int half) const {
    store_packed(head + j, low);
    store_packed(head + half + j, high);
  }
};

}  // namespace fourmi::cuda
