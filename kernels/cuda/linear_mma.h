// The kernel of linear maps on the matrix units, of any shape: tiles of 128 x 128 over steps of 32 of the sum. A side
// says how elements are fetched and how they become 16 bits, so that one kernel is for bf16 and for elements with
// scales. For .cu files.
//
// A side has
//   along                          does the sum go along its rows? Else down its columns
//   promotes                       sums over 128 elements (f16) are multiplied by both scales and added up
//   place(product)                 goes to the group
//   Raw fetch(row, column, valid)  `length` elements of a row, as they are; from the `valid`-th on zeros. Of a step
//   that
//                                  exists
//   eight_halves(raw, k)           of these eight, from the k-th on, in 16 bits
//   scale(line, group)             where it promotes: of a line (the output's row or column) and a group of the sum
#pragma once

#include "kernels/cuda/linear_tiles.h"
#include "kernels/cuda/mma.h"
#include "kernels/numerics/math.h"

namespace fourmi::cuda::linear {

namespace mma {
inline constexpr int threads = 256, tile = 128, depth = 32;
inline constexpr int warp_rows = 64, warp_columns = 32;  // of a tile: 2 x 4 warps
inline constexpr int steps_a_group = 128 / depth;
static_assert(threads * 16 == tile * depth);
/// Elements from row to row in shared memory: eight more than there are, so that matrices of 8 x 8 lie in all banks.
template <class Side>
inline constexpr int stride = (Side::along ? depth : tile) + 8;
template <class Side>
inline constexpr int size = (Side::along ? tile : depth) * stride<Side>;
}  // namespace mma

/// n elements of one or two bytes, 16 bytes together, as words; from the `valid`-th on zeros.
template <int n, class Element>
__device__ Vector<std::uint32_t, 4> load_words(const Element* from, int valid, bool aligned) {
  static_assert(n * sizeof(Element) == 16);
  if (aligned && valid >= n) return load<4>(reinterpret_cast<const std::uint32_t*>(from));
  Vector<std::uint32_t, 4> v = {};
#pragma unroll
  for (int i = 0; i < n; ++i)
    if (i < valid) v.value[i * 4 / n] |= std::uint32_t{from[i]} << (32 * (i % (n / 4)) / (n / 4));
  return v;
}

/// This thread's sixteen elements of a tile of one side.
template <class Side>
struct TilePart {
  static constexpr int n = Side::length, parts = 16 / n;
  typename Side::Raw part[parts];

  /// Line and s of the first of n in the tile.
  struct Place {
    int line, s;
  };
  static __device__ Place at(int i) {
    const int v = static_cast<int>(threadIdx.x) + i * mma::threads;
    if constexpr (Side::along) return {v / (mma::depth / n), v % (mma::depth / n) * n};
    return {v % (mma::tile / n) * n, v / (mma::tile / n)};
  }
  __device__ void fetch(const Side& side, int line, int lines, int s, int sum) {
#pragma unroll
    for (int i = 0; i < parts; ++i) {
      const Place v = at(i);
      const int l = line + v.line, at_s = s + v.s;
      if constexpr (Side::along)
        part[i] = side.fetch(min(l, lines - 1), at_s, sum - at_s);  // lines behind the last are not stored
      else
        part[i] = side.fetch(at_s, l, at_s < sum ? lines - l : 0);
    }
  }
  __device__ void put(std::uint16_t* shared) const {
#pragma unroll
    for (int i = 0; i < parts; ++i) {
      const Place v = at(i);
      std::uint16_t* const to =
          shared + (Side::along ? v.line * mma::stride<Side> + v.s : v.s * mma::stride<Side> + v.line);
#pragma unroll
      for (int k = 0; k < n; k += 8) store<4>(reinterpret_cast<std::uint32_t*>(to + k), Side::eight_halves(part[i], k));
    }
  }
};

/// Four matrices of 8 x 8 of a side's tile, from `line` and `s` on: those of 16 lines by 16 of the sum. Of the first
/// side the second matrix has the next lines, of the second side the next of the sum.
template <bool first, class Side>
__device__ void load_part(const std::uint16_t* shared, int line, int s, std::uint32_t (&r)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size, row = lane % 8;
  const int low = lane / 8 % 2 * 8, high = lane / 16 * 8;  // of matrices 1 and 3, of 2 and 3
  line += first ? low : high, s += first ? high : low;
  const std::uint16_t* const at =
      Side::along ? shared + (line + row) * mma::stride<Side> + s : shared + (s + row) * mma::stride<Side> + line;
  load_matrices<!Side::along>(at, r);
}

/// What a warp has of the tile: 4 x 4 times 16 x 8.
using WarpSums = float[4][4][4];

/// sums += a b^T over the `depth` elements in shared memory.
template <class A, class B>
__device__ void add_step(const std::uint16_t* a, const std::uint16_t* b, int row, int column, WarpSums& sums) {
#pragma unroll
  for (int s = 0; s < mma::depth; s += 16) {
    std::uint32_t x[4], y[2][4];
#pragma unroll
    for (int j = 0; j < 2; ++j) load_part<false, B>(b, column + 16 * j, s, y[j]);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      load_part<true, A>(a, row + 16 * i, s, x);
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if constexpr (A::promotes)
          multiply_add_f16(sums[i][j], x, y[j / 2][j % 2 * 2], y[j / 2][j % 2 * 2 + 1]);
        else
          multiply_add_bf16(sums[i][j], x, y[j / 2][j % 2 * 2], y[j / 2][j % 2 * 2 + 1]);
    }
  }
}

/// One of a tile's scales in a group of the sum: rows', then columns'.
template <class A, class B>
__device__ float scale_of_thread(const A& a, const B& b, const Tile& tile, int group) {
  const int thread = static_cast<int>(threadIdx.x);
  const bool of_row = thread < mma::tile;
  const int line = of_row ? tile.row + thread : tile.column + thread - mma::tile;
  if (line >= (of_row ? tile.product.height : tile.product.width)) return 0;
  return of_row ? a.scale(line, group) : b.scale(line, group);
}

/// total = fma(both scales, sums, total); sums start again.
__device__ inline void promote(const float* scales, int row, int column, WarpSums& sums, WarpSums& total) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size, g = lane / 4, t = lane % 4;
  const float* const of_rows = scales + row + g;
  const float* const of_columns = scales + mma::tile + column + 2 * t;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const float both = of_rows[16 * i + k / 2 * 8] * of_columns[8 * j + k % 2];
        total[i][j][k] = fma(both, sums[i][j][k], total[i][j][k]);
        sums[i][j][k] = 0;
      }
}

template <class Y>
__device__ void finish(const Output<Y>& out, const Tile& tile, int row, int column, const WarpSums& sums) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int y = tile.row + row + 16 * i + 8 * half + g;
      if (y >= tile.product.height) continue;
#pragma unroll
      for (int j = 0; j < 4; ++j)
        out.put_pair(y, tile.column + column + 8 * j + 2 * t, tile.product.width, sums[i][j][2 * half],
                     sums[i][j][2 * half + 1]);
    }
}

template <class A, class B, class Y>
__global__ void __launch_bounds__(mma::threads, A::promotes ? 1 : 2)
    multiply(A a, B b, Output<Y> out, const Groups groups) {
  static_assert(A::promotes == B::promotes);
  Tile tile;
  if (!find_tile(groups, mma::tile, mma::tile, tile)) return;
  const Product& p = tile.product;
  a.place(p), b.place(p);
  alignas(16) __shared__ std::uint16_t first[2][mma::size<A>], second[2][mma::size<B>];
  __shared__ float scales[A::promotes ? 2 : 1][2 * mma::tile];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / warp_size;
  const int row = warp / 4 * mma::warp_rows, column = warp % 4 * mma::warp_columns;
  // A warp all of whose outputs lie outside has nothing to do between barriers.
  const bool has_outputs = tile.row + row < p.height && tile.column + column < p.width;
  __shared__ Tile kept;  // for the end: the sum needs the registers
  if (thread == 0) kept = tile;
  __syncthreads();

  TilePart<A> part_a;
  TilePart<B> part_b;
  float mine = 0;
  const auto fetch = [&](int step) {
    part_a.fetch(a, tile.row, p.height, step * mma::depth, p.sum);
    part_b.fetch(b, tile.column, p.width, step * mma::depth, p.sum);
    if constexpr (A::promotes)
      if (step % mma::steps_a_group == 0) mine = scale_of_thread(a, b, tile, step / mma::steps_a_group);
  };
  WarpSums sums = {}, total = {};
  const int steps = (p.sum + mma::depth - 1) / mma::depth;
  if (steps > 0) fetch(0);
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    const int buffer = step % 2;
    [[maybe_unused]] const int scales_of_step = step / mma::steps_a_group % 2;
    part_a.put(first[buffer]);
    part_b.put(second[buffer]);
    if constexpr (A::promotes)
      if (step % mma::steps_a_group == 0) scales[scales_of_step][thread] = mine;
    __syncthreads();  // one a step is enough: who fills a buffer again has seen all leave it one barrier ago
    const int next = step + 1;
    if (next < steps) fetch(next);
    if (!has_outputs) continue;
    add_step<A, B>(first[buffer], second[buffer], row, column, sums);
    if constexpr (A::promotes)
      if (next % mma::steps_a_group == 0 || next == steps) promote(scales[scales_of_step], row, column, sums, total);
  }
  out.place(kept.product);
  if constexpr (A::promotes)
    finish(out, kept, row, column, total);
  else
    finish(out, kept, row, column, sums);
}

/// For the host.
template <class Y, class A, class B>
void launch_multiply(const CudaStream& stream, const Problem& p, const A& a, const B& b, int scale_rows) {
  Groups groups = groups_of(stream, p, mma::tile, mma::tile);
  groups.scale_rows = scale_rows;
  launch(stream, multiply<A, B, Y>, num_tiles(groups), mma::threads, 0, a, b, output_of<Y>(p), groups);
}
/// Calls f(std::type_identity<Y>) with the output's type; gradients of weights are f32.
template <Map map, class F>
void visit_output(const Problem& p, const F& f) {
  if constexpr (map != Map::backward_weight)
    if (p.out.dtype == DType::bf16) return f(std::type_identity<bfloat16>{});
  f(std::type_identity<float>{});
}

}  // namespace fourmi::cuda::linear
