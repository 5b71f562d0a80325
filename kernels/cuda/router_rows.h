// A token's row of scores held by one warp: lane l has elements l, l + 32, l + 64 ... Sums along the row are in the
// CPU's order (kernels/numerics/lanes.h), and the largest are those that the CPU takes (kernels/cpu/routing_top_k.h),
// so that what routing chooses is equal to the bit. For .cu files.
#pragma once

#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/numerics/order_key.h"

namespace fourmi::cuda {

inline constexpr std::int64_t most_experts = 512;
inline constexpr int router_threads = 256, router_warps = router_threads / warp_size;  // a token a warp

/// Calls f with how many elements a lane has, as a constant.
template <class F>
void visit_parts(std::int64_t num_experts, const F& f) {
  FOURMI_CHECK(num_experts >= 1 && num_experts <= most_experts, "{} experts on a GPU, at most {}", num_experts,
               most_experts);
  if (num_experts <= 32) return f(std::integral_constant<int, 1>{});
  if (num_experts <= 64) return f(std::integral_constant<int, 2>{});
  if (num_experts <= 128) return f(std::integral_constant<int, 4>{});
  if (num_experts <= 256) return f(std::integral_constant<int, 8>{});
  f(std::integral_constant<int, 16>{});
}

/// Blocks for a warp a token, one each: in a loop over tokens the compiler would keep all addresses.
inline unsigned router_blocks(std::int64_t num_tokens) {
  return num_blocks(num_tokens, router_warps, std::numeric_limits<std::int32_t>::max());
}

/// Blocks that a multiprocessor is to hold at once, where a lane has so many bytes of a row: else the compiler spends
/// registers on doing all parts side by side.
constexpr int blocks_of_row(int bytes) {
  return bytes <= 32 ? 4 : bytes <= 64 ? 2 : 1;
}

__device__ inline int lane_of_warp() {
  return static_cast<int>(threadIdx.x) % warp_size;
}
__device__ inline int warp_of_block() {
  return static_cast<int>(threadIdx.x) / warp_size;
}
__device__ inline std::int64_t token_of_warp() {
  return std::int64_t{blockIdx.x} * router_warps + warp_of_block();
}
/// The element that is this lane's in a part.
__device__ inline int element_of(int part) {
  return part * warp_size + lane_of_warp();
}

/// Zeros behind the row's end.
template <class T, int parts>
__device__ void load_row(const T* row, int size, T (&v)[parts]) {
#pragma unroll
  for (int p = 0; p < parts; ++p) v[p] = element_of(p) < size ? row[element_of(p)] : T{0};
}
template <class T, int parts>
__device__ void store_row(T* row, int size, const T (&v)[parts]) {
#pragma unroll
  for (int p = 0; p < parts; ++p)
    if (element_of(p) < size) row[element_of(p)] = v[p];
}

/// The first sixteen lanes' sums halved down to one, in every lane.
template <class T>
__device__ T fold_sixteen(T sum) {
#pragma unroll
  for (int step = num_lanes / 2; step > 0; step /= 2) sum += __shfl_down_sync(all_lanes, sum, step);
  return __shfl_sync(all_lanes, sum, 0);
}

/// lane_sum and lane_dot of rows: lane j of sixteen has its own element of a part, then that of the lane 16 above.
template <class T, int parts>
__device__ T sum_row(const T (&v)[parts], int size) {
  T sum = 0;
#pragma unroll
  for (int p = 0; p < parts; ++p) {
    const T above = __shfl_down_sync(all_lanes, v[p], num_lanes);
    if (element_of(p) < size) sum += v[p];
    if (element_of(p) + num_lanes < size) sum += above;
  }
  return fold_sixteen(sum);
}
template <class T, int parts>
__device__ T dot_rows(const T (&x)[parts], const T (&y)[parts], int size) {
  T sum = 0;
#pragma unroll
  for (int p = 0; p < parts; ++p) {
    const T x_above = __shfl_down_sync(all_lanes, x[p], num_lanes);
    const T y_above = __shfl_down_sync(all_lanes, y[p], num_lanes);
    if (element_of(p) < size) sum = fma(x[p], y[p], sum);
    if (element_of(p) + num_lanes < size) sum = fma(x_above, y_above, sum);
  }
  return fold_sixteen(sum);
}

__device__ inline std::int32_t warp_max(std::int32_t x) {
  return __reduce_max_sync(all_lanes, x);
}
__device__ inline std::int64_t warp_max(std::int64_t x) {
#pragma unroll
  for (int step = warp_size / 2; step > 0; step /= 2) {
    const std::int64_t other = __shfl_xor_sync(all_lanes, x, step);
    x = x > other ? x : other;
  }
  return x;
}

template <class T, int parts>
__device__ void keys_of_row(const T (&v)[parts], int size, OrderKey<T> (&key)[parts]) {
#pragma unroll
  for (int p = 0; p < parts; ++p) key[p] = element_of(p) < size ? order_key(v[p]) : excluded_key<T>;
}

/// The `count` largest of a row's keys, of equal ones the lower: bit p of the result says that this lane's element of
/// part p is one of them. At least so many are not excluded. Destroys the keys.
template <class Key, int parts>
__device__ unsigned take_largest(Key (&key)[parts], int count) {
  constexpr Key least = std::numeric_limits<Key>::min();
  unsigned taken = 0;
#pragma unroll 1
  for (int k = 0; k < count; ++k) {
    Key best = key[0];
    int at = 0;
#pragma unroll
    for (int p = 1; p < parts; ++p)
      if (key[p] > best) best = key[p], at = p;
    const int mine = best == warp_max(best) ? element_of(at) : static_cast<int>(most_experts);
    const bool is_first = mine == __reduce_min_sync(all_lanes, mine);
    if (is_first) taken |= 1u << at;
#pragma unroll
    for (int p = 0; p < parts; ++p)
      if (is_first && p == at) key[p] = least;
  }
  return taken;
}

/// f(place, part) for what this lane has taken; places count the warp's in ascending order of the elements.
template <int parts, class F>
__device__ void visit_taken(unsigned taken, const F& f) {
  const unsigned below = (1u << lane_of_warp()) - 1;
  int before = 0;
#pragma unroll
  for (int p = 0; p < parts; ++p) {
    const unsigned all = __ballot_sync(all_lanes, taken >> p & 1);
    if (taken >> p & 1) f(before + __popc(all & below), p);
    before += __popc(all);
  }
}

}  // namespace fourmi::cuda
