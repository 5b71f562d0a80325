// How products are cut into work for a card: tiles of the result, stages of shared memory, and the order of tiles. For
// host and device alike. A result has rows, and columns in panels: of y[M, N] = x[M, K] w[N, K]^T rows are tokens; of a
// weight's gradient dw[N, K] = dy^T x rows are features of dy.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fourmi::cuda::hopper {

/// Of a tile: rows and columns of a panel. A step of the sum is 128 bytes of each of them: of e4m3 elements as many as
/// share a scale.
inline constexpr int tile_rows = 128, panel_columns = 128, step_bytes = 128, step = 128, bf16_step = 64;
/// Two warpgroups multiply, half of a tile's rows each; one feeds the copy engine and gives them its registers.
inline constexpr int math_threads = 256, threads = 384, math_registers = 232, copy_registers = 40;
static_assert(math_threads * math_registers + (threads - math_threads) * copy_registers <= 65536);

/// One tile: rows [row, row_end), at most tile_rows, and panels from `panel` on, of group `group`. No panel: there are
/// no more tiles.
struct alignas(16) Tile {
  int group = 0, row = 0, row_end = 0, panel = -1;
};

/// Of all groups g of tokens in a call: where their rows begin, and their first tile (or step); both end with an entry
/// for the end of the last one.
inline constexpr int most_groups = 1024;
struct GroupTable {
  std::int32_t row[most_groups + 1], first[most_groups + 1];

  /// The group that has tile `index`, which is below the last entry: not one without tiles.
  constexpr int group_of(int groups, int index) const {
    int low = 0, high = groups;  // first[low] <= index < first[high]
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (first[middle] <= index ? low : high) = middle;
    }
    return low;
  }
};
constexpr int blocks_of(int count, int size) {
  return (count + size - 1) / size;
}

/// Shared memory of a block: a ring of `count` stages, each a step on its way or being read, and beside it the tile
/// that begins with it. Scales have a ring of their own, an entry for some steps of a tile.
struct Stages {
  static constexpr int most_bytes = 227 << 10;

  int panels = 1;  ///< of a tile
  int row_scale_bytes = 0, panel_scale_bytes = 0, steps_of_scales = 1;

  static constexpr int rows_bytes = tile_rows * step_bytes, panel_bytes = panel_columns * step_bytes;
  static constexpr int tile_bytes = sizeof(Tile), table_bytes = sizeof(GroupTable);
  static constexpr int barrier_bytes = 16;  // two a stage

  constexpr int entry_bytes() const { return row_scale_bytes + panels * panel_scale_bytes; }
  constexpr int count() const {
    return (most_bytes - table_bytes - entry_bytes()) /
           (rows_bytes + panels * panel_bytes + entry_bytes() + tile_bytes + barrier_bytes);
  }
  /// One more than stages: when the copy engine comes to an entry again, it has waited for all to have read the step
  /// behind that entry's last one, and so to have promoted that one.
  constexpr int entries() const { return count() + 1; }
  /// What copies bring for a step.
  constexpr int bytes_of_step(int panels_there, bool with_scales) const {
    return rows_bytes + panels_there * panel_bytes +
           (with_scales ? row_scale_bytes + panels_there * panel_scale_bytes : 0);
  }

  // Where things are: what is swizzled first, at multiples of 1024.
  constexpr int rows(int stage) const { return stage * rows_bytes; }
  constexpr int panel(int stage, int p) const { return rows(count()) + (stage * panels + p) * panel_bytes; }
  constexpr int row_scales(int entry) const { return panel(count(), 0) + entry * row_scale_bytes; }
  constexpr int panel_scales(int entry, int p) const {
    return row_scales(entries()) + (entry * panels + p) * panel_scale_bytes;
  }
  constexpr int tile(int stage) const { return panel_scales(entries(), 0) + stage * tile_bytes; }
  constexpr int barriers() const { return tile(count()); }
  constexpr int table() const { return barriers() + count() * barrier_bytes; }
  constexpr int bytes() const { return table() + table_bytes; }
};
/// Operands of bf16 whose lines are contiguous lie in slabs: 64 lines, 128 bytes for each element of a step's sum.
inline constexpr int slab_lines = 64, slab_bytes = bf16_step * step_bytes;
/// Of operands without scales.
constexpr Stages bf16_stages(int panels) {
  return {panels};
}
/// Of y = x w^T: rows of x have their scales beside them, those of four steps in 16 bytes; so has a panel of w.
constexpr Stages product_stages(int panels) {
  return {panels, tile_rows * 16, 16, 4};
}
/// Of dw = dy^T x: each step has a scale for each row and column.
constexpr Stages gradient_stages(int panels) {
  return {panels, tile_rows * 4, panel_columns * 4, 1};
}

/// The order of a group's tiles: bands of `band` tiles of rows, which go through all columns. So what runs at the same
/// time shares rows and panels in the L2 cache.
struct TileOrder {
  int groups = 1, column_tiles = 0, panels = 1, band = 1;

  constexpr void place(int index, int row, int row_end, Tile& tile) const {
    const int band_tiles = band * column_tiles, first_row_tile = index / band_tiles * band;
    const int height = std::min(band, blocks_of(row_end - row, tile_rows) - first_row_tile);
    tile.row = row + (first_row_tile + index % band_tiles % height) * tile_rows;
    tile.row_end = std::min(row_end, tile.row + tile_rows);
    tile.panel = index % band_tiles / height * panels;
  }
  /// The tile of this index where groups are runs of rows, one after another; false behind the last one.
  constexpr bool find(const GroupTable& table, int index, Tile& tile) const {
    if (index >= table.first[groups]) return false;
    tile.group = table.group_of(groups, index);
    place(index - table.first[tile.group], table.row[tile.group], table.row[tile.group + 1], tile);
    return true;
  }
  /// The same where each group has all rows.
  constexpr bool find(int rows, int index, Tile& tile) const {
    const int tiles = blocks_of(rows, tile_rows) * column_tiles;
    tile.group = index / tiles;
    if (tile.group >= groups) return false;
    place(index % tiles, 0, rows, tile);
    return true;
  }
};

/// What is decided on the host, of which groups' sizes are not known.
struct Plan {
  int panels = 1, column_tiles = 0, band = 1, blocks = 0;
};

/// Relative times of a step with one and with two panels, all multiprocessors at work: a wide tile reads less from the
/// L2 cache and shared memory for the same products (48 KiB for two panels, 32 KiB for one). Estimated, not measured.
inline constexpr std::int64_t narrow_time = 10, wide_time = 17;

constexpr std::int64_t round_up_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}
/// Of two tiles' widths the faster one.
constexpr int choose_panels(std::int64_t row_tiles, std::int64_t panels, int multiprocessors) {
  const auto time = [&](std::int64_t wide, std::int64_t of_step) {
    return round_up_div(row_tiles * round_up_div(panels, wide), multiprocessors) * of_step;
  };
  return time(2, wide_time) <= time(1, narrow_time) ? 2 : 1;
}
/// The band with which as many tiles as there are multiprocessors read the fewest rows and columns.
constexpr int choose_band(std::int64_t row_tiles, std::int64_t column_tiles, int panels, int multiprocessors) {
  std::int64_t best = 0;
  int chosen = 1;
  for (int band = 1; band <= 32; band *= 2) {
    const std::int64_t tall = std::min<std::int64_t>(band, row_tiles);
    const std::int64_t wide = std::min(round_up_div(multiprocessors, tall), column_tiles);
    const std::int64_t repeats = round_up_div(multiprocessors, tall * wide);
    const std::int64_t read = repeats * (tall * tile_rows + wide * panels * panel_columns);
    if (best == 0 || read < best) best = read, chosen = band;
  }
  return chosen;
}

/// For `groups` runs of rows.
constexpr Plan plan_product(std::int64_t rows, std::int64_t columns, std::int64_t groups, int multiprocessors) {
  const std::int64_t panels = round_up_div(columns, panel_columns), whole = round_up_div(rows, tile_rows);
  // Each group may end inside of a tile, so at worst; and so probably.
  const std::int64_t most_row_tiles = groups == 1 ? whole : rows / tile_rows + std::min(groups, rows);
  const std::int64_t row_tiles = std::min(most_row_tiles, whole + groups / 2);
  Plan plan;
  plan.panels = choose_panels(row_tiles, panels, multiprocessors);
  plan.column_tiles = static_cast<int>(round_up_div(panels, plan.panels));
  plan.band = choose_band(round_up_div(row_tiles, groups), plan.column_tiles, plan.panels, multiprocessors);
  plan.blocks = static_cast<int>(std::min<std::int64_t>(multiprocessors, most_row_tiles * plan.column_tiles));
  return plan;
}
/// For `groups` matrices of so many rows and columns.
constexpr Plan plan_gradient(std::int64_t rows, std::int64_t columns, std::int64_t groups, int multiprocessors) {
  const std::int64_t panels = round_up_div(columns, panel_columns), row_tiles = round_up_div(rows, tile_rows);
  Plan plan;
  plan.panels = choose_panels(row_tiles * groups, panels, multiprocessors);
  plan.column_tiles = static_cast<int>(round_up_div(panels, plan.panels));
  plan.band = choose_band(row_tiles, plan.column_tiles, plan.panels, multiprocessors);
  plan.blocks = static_cast<int>(std::min<std::int64_t>(multiprocessors, row_tiles * groups * plan.column_tiles));
  return plan;
}

}  // namespace fourmi::cuda::hopper
