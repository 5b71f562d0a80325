// What the two kinds of products have in common whatever their operands are: which tiles there are, and what becomes of
// a tile's sums. Bases of a Work (pipeline.h). For .cu files.
#pragma once

#include "kernels/cuda/hopper/pipeline.h"
#include "kernels/cuda/hopper/store_rows.h"

namespace fourmi::cuda::hopper {

/// Of a call, on the host and in the kernel.
struct TileSizes {
  const std::int32_t* offsets;
  TileOrder order;
  int tokens, N, K;
};
template <class Call>
TileSizes tile_sizes(const Call& c, const Plan& plan) {
  return {c.offsets,
          {static_cast<int>(c.groups), plan.column_tiles, plan.panels, plan.band},
          static_cast<int>(c.M),
          static_cast<int>(c.N),
          static_cast<int>(c.K)};
}

/// y [M, N] = sums over K + residual. Groups are of rows.
template <int most_panels, class Y>
struct ProductTiles : TileSizes {
  static constexpr int block_tokens = tile_rows;
  Y* y;
  const Y* residual;

  static constexpr int tiles_of_block(const TileOrder& order) { return order.column_tiles; }
  __device__ bool find(const GroupTable& table, int index, Tile& tile) const { return order.find(table, index, tile); }
  __device__ int panels(const Tile& tile) const { return min(most_panels, blocks_of(N, panel_columns) - tile.panel); }
  __device__ void store(const float (&sum)[64], const Tile& tile, int row, int panel) const {
    store_rows(sum, y, residual, {N, row, tile.row_end, panel * panel_columns});
  }
};

/// dw [groups, N, K] += sums over the group's tokens, `step_tokens` a step.
template <int most_panels, int step_tokens>
struct GradientTiles : TileSizes {
  static constexpr int block_tokens = step_tokens;
  float* dw;

  /// The table is of steps: all matrices have the same tiles.
  static constexpr int tiles_of_block(const TileOrder&) { return 1; }
  __device__ bool find(const GroupTable&, int index, Tile& tile) const { return order.find(N, index, tile); }
  __device__ int steps(const GroupTable& table, const Tile& tile) const {
    return table.first[tile.group + 1] - table.first[tile.group];
  }
  __device__ int panels(const Tile& tile) const { return min(most_panels, blocks_of(K, panel_columns) - tile.panel); }
  /// dw comes to the L2 cache while tensor cores work, some rows a step.
  __device__ void prefetch_result(const Tile& tile, int k, int steps) const {
    const int column = tile.panel * panel_columns, each = max(16, blocks_of(tile_rows, steps));
    const auto bytes = static_cast<unsigned>(min(most_panels * panel_columns, K - column)) * 4;
    const int begin = tile.row + k * each, end = min(tile.row_end, begin + each);
    for (int row = begin; row < end; ++row)
      prefetch_bytes(dw + (std::int64_t{tile.group} * N + row) * K + column, bytes);
  }
  __device__ void store(const float (&sum)[64], const Tile& tile, int row, int panel) const {
    float* const matrix = dw + std::int64_t{tile.group} * N * K;
    store_rows(sum, matrix, matrix, {K, row, tile.row_end, panel * panel_columns});
  }
};

}  // namespace fourmi::cuda::hopper
