// Gradients of vectors: sums down the rows of tall matrices. Blocks sum runs of rows into partials in workspace; then
// this adds the partials up and to the gradient. How rows are cut does not depend on the card, and so no bit does. For
// .cu files.
#pragma once

#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"

namespace fourmi::cuda {

/// Blocks of one pass over the rows: some waves on any card, so that the last one is a small part of the time.
inline constexpr std::int64_t partial_blocks = 2048;

/// [num_parts, columns], and where their sums down the parts are added.
template <class T>
struct Partials {
  const T* values = nullptr;
  int num_parts = 0;
  T* sum = nullptr;
};

/// A block has 32 columns; warp w sums every 32nd part from w on, then lanes of a warp sum one column's 32.
template <class T>
__global__ void __launch_bounds__(1024) add_partials(const Partials<T> first, const Partials<T> second, int columns) {
  __shared__ T transposed[32][33];
  const Partials<T> p = blockIdx.y == 0 ? first : second;
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int from = static_cast<int>(blockIdx.x) * 32, to = from + y;
  T sum{0};
  if (from + x < columns) {
    const T* const values = p.values + from + x;
#pragma unroll 4
    for (int part = y; part < p.num_parts; part += 32) sum += values[std::int64_t{part} * columns];
  }
  transposed[y][x] = sum;
  __syncthreads();
  sum = lane_group_sum<warp_size>(transposed[x][y]);
  if (x == 0 && to < columns) p.sum[to] += sum;
}

/// first.sum += partials, and second's alike where it is given.
template <class T>
void add_up(const CudaStream& stream, const Partials<T>& first, int columns, const Partials<T>& second = {}) {
  launch(stream, add_partials<T>, dim3(static_cast<unsigned>(ceil_div(columns, 32)), second.sum ? 2 : 1), dim3(32, 32),
         0, first, second, columns);
}

}  // namespace fourmi::cuda
