// Threads of a block over rows: each thread has one vector of a row, a block as many rows as its threads are enough
// for, and the rest of a long row is another block's. For .cu files.
#pragma once

#include "kernels/cuda/bfloat16_instructions.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/numerics/rounding.h"

namespace fourmi::cuda {

struct RowThreads {
  static constexpr int threads = 256;
  std::int64_t num_rows;
  int num_vectors;  ///< of a row
  int lane_bits;    ///< 2^lane_bits threads go side by side through a row
  int each;         ///< vectors of a thread, 2^lane_bits apart

  __device__ std::int64_t row() const {
    return std::int64_t{blockIdx.x} * (threads >> lane_bits) + (static_cast<int>(threadIdx.x) >> lane_bits);
  }
  /// The i-th of this thread's vectors; it may be behind the row's end.
  __device__ int vector(int i) const {
    const int lane = static_cast<int>(threadIdx.x) & ((1 << lane_bits) - 1);
    return ((static_cast<int>(blockIdx.y) * each + i) << lane_bits) + lane;
  }
  dim3 blocks() const {
    const std::int64_t x = ceil_div(num_rows, threads >> lane_bits), y = ceil_div(num_vectors, each << lane_bits);
    FOURMI_CHECK(x <= std::numeric_limits<std::int32_t>::max() && y <= 65535, "{} rows of {} vectors", num_rows,
                 num_vectors);
    return {static_cast<unsigned>(x), static_cast<unsigned>(y)};
  }
};

inline RowThreads row_threads(std::int64_t num_rows, std::int64_t num_vectors, int each) {
  FOURMI_CHECK(num_vectors <= std::numeric_limits<std::int32_t>::max() / 2, "rows of {} vectors", num_vectors);
  int bits = 0;
  while (1 << bits < RowThreads::threads && (each << bits) < num_vectors) ++bits;
  return {num_rows, static_cast<int>(num_vectors), bits, each};
}

/// Calls f(std::type_identity<X>{}) with the widest X (of 16, 4 or 1 bytes) that divides all of them: addresses and
/// sizes, joined by |. For what moves bytes.
template <class F>
void visit_width(std::uintptr_t all, const F& f) {
  using Whole = Vector<std::uint32_t, 4>;
  if (all % sizeof(Whole) == 0)
    f(std::type_identity<Whole>{});
  else if (all % sizeof(std::uint32_t) == 0)
    f(std::type_identity<std::uint32_t>{});
  else
    f(std::type_identity<std::uint8_t>{});
}

/// n values, widened: one load each 16 bytes if n is more than one; then `from` is aligned to them.
template <class T, int n, class X>
__device__ void load_values(const X* from, T (&v)[n]) {
  constexpr int width = n < vector_length<X> ? n : vector_length<X>;
#pragma unroll
  for (int part = 0; part < n; part += width) {
    const Vector<X, width> x = load<width>(from + part);
#pragma unroll
    for (int i = 0; i < width; ++i) v[part + i] = widen<T>(x.value[i]);
  }
}
/// The same way back, rounded. A NaN may lose its sign.
template <class X, int n, class T>
__device__ void store_values(X* to, const T (&v)[n]) {
  constexpr int width = n < vector_length<X> ? n : vector_length<X>;
#pragma unroll
  for (int part = 0; part < n; part += width) {
    if constexpr (std::is_same_v<X, bfloat16> && std::is_same_v<T, float> && width > 1) {
      Vector<std::uint32_t, width / 2> pairs;
#pragma unroll
      for (int i = 0; i < width; i += 2) pairs.value[i / 2] = bfloat16_of_pair(v[part + i], v[part + i + 1]);
      store_global<width / 2>(reinterpret_cast<std::uint32_t*>(to + part), pairs);
    } else {
      Vector<X, width> x;
#pragma unroll
      for (int i = 0; i < width; ++i) x.value[i] = round_to<X>(v[part + i]);
      store_global<width>(to + part, x);
    }
  }
}

/// May rows of `size` values at p be read by load_values?
template <class X>
bool has_whole_vectors(const X* p, std::int64_t size) {
  return is_vector_aligned<vector_length<X>>(p, size);
}

}  // namespace fourmi::cuda
