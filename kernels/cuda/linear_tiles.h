// Tiles of a linear map's output. A block finds the group (expert) of its tile in the offsets, which it reads from
// device memory; the host gives at least as many blocks as there are tiles. For .cu files.
#pragma once

#include <algorithm>

#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear_problem.h"

namespace fourmi::cuda::linear {

/// out(i, j) = sum over s of a(i, s) b(j, s) for each group of rows, and the tiles that cover all outputs. Sizes are
/// below 2^30; elements are counted in 64 bits.
struct Groups {
  const std::int32_t* offsets = nullptr;  ///< of the device; null: one group of num_rows rows
  int num_rows = 0, num_groups = 1;
  bool sums_rows = false;               ///< gradients of weights: the sum is over a group's rows
  int height = 0, width = 0;            ///< of an output whose sum is over rows; of others the width alone
  int sum = 0;                          ///< unless it is over rows
  int scale_rows = 0;                   ///< where columns have scales: rows that share one; else 0
  int row_tiles = 0, column_tiles = 0;  ///< an upper bound of the first
};

/// One group.
struct Product {
  int group;
  int begin, count;  ///< its rows
  int first_scale;   ///< its first group of scales, where columns have them
  int height, width, sum;
};
struct Tile {
  Product product;
  int row, column;  ///< of its first element, in the group's output
};

/// Blocks that follow one another work on this many rows of tiles, column by column: their inputs stay in the L2.
inline constexpr int band = 8;

/// The sum over groups below `group` of their groups of scales. All lanes of the warp call it.
__device__ inline int scales_before(const Groups& g, int group) {
  int n = 0;
  for (int e = static_cast<int>(threadIdx.x) % warp_size; e < group; e += warp_size)
    n += (g.offsets[e + 1] - g.offsets[e] + g.scale_rows - 1) / g.scale_rows;
  return lane_group_sum<warp_size>(n);
}

/// The group that has the row tile `tile` among the tiles of all groups; false behind the last one. Each warp looks for
/// itself, 32 groups at a time.
__device__ inline bool find_group(const Groups& g, int tile, int tile_rows, Tile& found) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  int before = 0;
  for (int first = 0; first < g.num_groups; first += warp_size) {
    int begin = 0, count = 0;
    if (first + lane < g.num_groups) {
      begin = g.offsets[first + lane];
      count = g.offsets[first + lane + 1] - begin;
    }
    const int tiles = (count + tile_rows - 1) / tile_rows;
    int through = tiles;  // of this group and those before it
#pragma unroll
    for (int step = 1; step < warp_size; step *= 2) {
      const int other = __shfl_up_sync(all_lanes, through, step);
      if (lane >= step) through += other;
    }
    const unsigned behind = __ballot_sync(all_lanes, before + through > tile);
    if (behind != 0) {
      const int at = __ffs(static_cast<int>(behind)) - 1;
      found.product.group = first + at;
      found.product.begin = __shfl_sync(all_lanes, begin, at);
      found.product.count = __shfl_sync(all_lanes, count, at);
      found.row = (tile - before - __shfl_sync(all_lanes, through - tiles, at)) * tile_rows;
      return true;
    }
    before += __shfl_sync(all_lanes, through, warp_size - 1);
  }
  return false;
}

/// The tile of this block; false if it has none. All threads of the block call it and get the same.
__device__ inline bool find_tile(const Groups& g, int tile_rows, int tile_columns, Tile& found) {
  const unsigned a_band = static_cast<unsigned>(band) * static_cast<unsigned>(g.column_tiles);
  const int first = static_cast<int>(blockIdx.x / a_band) * band, in_band = static_cast<int>(blockIdx.x % a_band);
  const int rows = min(band, g.row_tiles - first);
  const int row_tile = first + in_band % rows;
  found.column = in_band / rows * tile_columns;
  Product& p = found.product;
  p = {0, 0, g.num_rows, 0, g.height, g.width, g.sum};
  if (g.sums_rows) {
    const int tiles = (g.height + tile_rows - 1) / tile_rows;
    p.group = row_tile / tiles;
    found.row = row_tile % tiles * tile_rows;
    if (g.offsets) {
      p.begin = g.offsets[p.group];
      p.count = g.offsets[p.group + 1] - p.begin;
      if (p.count == 0) return false;  // no rows: what is there keeps its bits
      if (g.scale_rows != 0) p.first_scale = scales_before(g, p.group);
    }
    p.sum = p.count;
    return true;
  }
  found.row = row_tile * tile_rows;
  if (g.offsets && !find_group(g, row_tile, tile_rows, found)) return false;
  p.height = p.count;
  return true;
}

/// Where sums go: out = add + sum, in the sum's dtype, rounded once. `add` may be `data`.
template <class Y>
struct Output {
  Y* data = nullptr;
  const Y* add = nullptr;
  std::int64_t group_step = 0;  ///< elements from a group to the next; 0: a group's are its rows
  int stride = 0;               ///< elements from row to row
  bool pairs = false;           ///< two neighbours from an even column on are one access

  __device__ void place(const Product& p) {
    const std::int64_t skipped = group_step != 0 ? p.group * group_step : std::int64_t{p.begin} * stride;
    data += skipped;
    if (add) add += skipped;
  }
  template <class T>
  __device__ void put(int row, int column, T sum) const {
    const std::int64_t at = std::int64_t{row} * stride + column;
    data[at] = narrow<Y>(add ? widen<T>(add[at]) + sum : sum);
  }
  /// Columns `column` (which is even) and the one behind it, as far as they are below `width`.
  template <class T>
  __device__ void put_pair(int row, int column, int width, T first, T second) const {
    if (!pairs) {
      if (column < width) put(row, column, first);
      if (column + 1 < width) put(row, column + 1, second);
      return;
    }
    if (column >= width) return;
    const std::int64_t at = std::int64_t{row} * stride + column;
    if (add) {
      const Vector<Y, 2> more = load<2>(add + at);
      first = widen<T>(more.value[0]) + first, second = widen<T>(more.value[1]) + second;
    }
    store<2>(data + at, Vector<Y, 2>{{narrow<Y>(first), narrow<Y>(second)}});
  }
};

/// A matrix without scales: one side of a product. `along`: the sum goes along its rows, else down its columns.
template <class X, bool along_>
struct Matrix {
  static constexpr bool along = along_;
  const X* data = nullptr;
  std::int64_t group_step = 0;  ///< elements from a group to the next; 0: a group's are its rows
  int stride = 0;               ///< elements from row to row
  bool aligned = false;         ///< vectors of 16 bytes from their multiples on

  __device__ void place(const Product& p) {
    data += group_step != 0 ? p.group * group_step : std::int64_t{p.begin} * stride;
  }
};

// For the host.

inline Groups groups_of(const CudaStream& stream, const Problem& p, int tile_rows, int tile_columns) {
  for (const std::int64_t n : {p.num_rows, p.num_in, p.num_out, p.num_groups})
    FOURMI_CHECK(n < 1 << 30, "{}: a size of {}", p.name, n);
  Groups g;
  if (p.grouped) g.offsets = stream.upload(p.offsets);
  g.num_rows = static_cast<int>(p.num_rows);
  g.num_groups = static_cast<int>(p.num_groups);
  g.sums_rows = p.map == Map::backward_weight;
  g.height = g.sums_rows ? static_cast<int>(p.num_out) : 0;
  g.width = static_cast<int>(p.map == Map::forward ? p.num_out : p.num_in);
  g.sum = static_cast<int>(p.map == Map::forward ? p.num_in : p.num_out);
  const std::int64_t used = p.num_used_rows();
  std::int64_t row_tiles = ceil_div(used, tile_rows);
  if (g.sums_rows)
    row_tiles = p.num_groups * ceil_div(p.num_out, tile_rows);
  else if (p.grouped)
    row_tiles = used / tile_rows + std::min(p.num_groups, used);
  const std::int64_t column_tiles = ceil_div(g.width, tile_columns);
  FOURMI_CHECK(row_tiles * column_tiles < 1 << 30, "{}: {} x {} tiles", p.name, row_tiles, column_tiles);
  g.row_tiles = static_cast<int>(row_tiles), g.column_tiles = static_cast<int>(column_tiles);
  return g;
}

inline unsigned num_tiles(const Groups& g) {
  return static_cast<unsigned>(g.row_tiles * g.column_tiles);
}

template <class Y>
Output<Y> output_of(const Problem& p) {
  Output<Y> o;
  o.data = pointer<Y>(p.out);
  o.add = pointer_or_null<Y>(p.residual);
  o.stride = static_cast<int>(p.map == Map::forward ? p.num_out : p.num_in);
  o.group_step = p.map == Map::backward_weight ? p.num_in * p.num_out : 0;
  o.pairs = is_vector_aligned<2>(o.data, o.stride) && is_vector_aligned<2>(o.add, o.stride);
  return o;
}

/// The two sides of a problem whose inputs have no scales.
template <class X, bool along>
Matrix<X, along> first_of(const Problem& p) {
  Matrix<X, along> m{pointer<X>(p.first)};
  m.stride = static_cast<int>(p.map == Map::forward ? p.num_in : p.num_out);
  m.aligned = is_vector_aligned<vector_length<X>>(m.data, m.stride);
  return m;
}
template <class X, bool along>
Matrix<X, along> second_of(const Problem& p) {
  Matrix<X, along> m{pointer<X>(p.second)};
  m.stride = static_cast<int>(p.num_in);
  m.group_step = p.map == Map::backward_weight ? 0 : p.num_in * p.num_out;
  m.aligned = is_vector_aligned<vector_length<X>>(m.data, m.stride);
  return m;
}

/// Calls f(first, second): which way the sum goes along each side is the map's.
template <class X, class F>
void visit_sides(const Problem& p, const F& f) {
  switch (p.map) {
    case Map::forward:
      return f(first_of<X, true>(p), second_of<X, true>(p));
    case Map::backward_input:
      return f(first_of<X, true>(p), second_of<X, false>(p));
    case Map::backward_weight:
      return f(first_of<X, false>(p), second_of<X, false>(p));
  }
}

}  // namespace fourmi::cuda::linear
