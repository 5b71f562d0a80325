// Blocked products of e4m3 elements: the tasks and packed panels of linear_blocked.h, where packing turns elements into
// what a kernel multiplies, and tiles promote their chains group by group. Rows are packed a few tiles at a time, just
// before all panels of columns pass by them.
//
// A Kernel provides
//   Unit, tile_rows, tile_cols (a divisor of 128), block_elements (a multiple of 128)
//   steps(n)            Units a line takes for n elements of the sum
//   pack_along<width, transposed, scaled>(source, lines, n, scales, dst)    contiguous in the sum -> [lines][steps], or
//                       [steps][width]
//   pack_across<width, scaled>(source, lines, n, scales, dst)               contiguous across -> [steps][width]
//                       scaled: multiplied by scales[n / 32][width], those of mx
//   multiply<promotion>(tile)                                               see PackedTile
//   finish(out, row, col, rows, cols, chains)                               as linear::finish
#pragma once

#include <algorithm>

#include "kernels/cpu/linear_blocked.h"
#include "kernels/cpu/linear_scaled.h"

namespace fourmi::linear {

/// What becomes of the scales.
enum class Promotion : std::uint8_t {
  none,       ///< mx: they are in the packed elements
  by_tile,    ///< all columns of a tile share one, that of column 0
  by_column,  ///< each column has its own
};

/// e4m3 elements in memory: the first one, and bytes from line to line (from one summed index to the next).
struct PackSource {
  const std::uint8_t* elements = nullptr;
  std::int64_t stride = 0;
};

/// A tile's share of a block of the sum. Chains of `count` elements are added to `sums`, or set them if it is the
/// first.
template <class Unit>
struct PackedTile {
  std::int64_t rows = 0, cols = 0, count = 0;
  const std::byte* a = nullptr;
  std::int64_t a_row = 0, a_step = 0;  ///< bytes
  const Unit* b = nullptr;             ///< [steps][tile_cols]
  const float* a_scales = nullptr;     ///< [groups of 128][tile_rows]
  const float* b_scales = nullptr;     ///< [groups of 128][tile_cols]
  float* sums = nullptr;               ///< [rows][tile_cols]
  bool first = false;
};

/// One block of one product's output.
template <class Kernel>
class ScaledTask {
 public:
  using Unit = typename Kernel::Unit;
  static constexpr std::int64_t tile_rows = Kernel::tile_rows, tile_cols = Kernel::tile_cols;
  static constexpr std::int64_t tile_size = tile_rows * tile_cols, block = ScaledFormat::block;
  static_assert(block % tile_cols == 0 && Kernel::block_elements % block == 0 && sizeof(Unit) == sizeof(float));

  ScaledTask(const ScaledProblem& problem, const ScaledProduct& p, std::int64_t row, std::int64_t rows,
             std::int64_t col, std::int64_t cols, const Largest& largest)
      : p_(p),
        group_size_(problem.group),
        promotion_(!problem.promotes() ? Promotion::none
                   : p.b.is_panels()   ? Promotion::by_tile
                                       : Promotion::by_column),
        row_(row),
        rows_(rows),
        col_(col),
        cols_(cols),
        largest_(largest),
        scratch_(thread_scratch()) {}

  void run() {
    std::int64_t begin = 0;
    part_ = 0, group_ = 0;
    do {
      const std::int64_t end = p_.part_end(begin);
      run_part(begin, end);
      begin = end;
      ++part_;
    } while (begin < p_.sum);
  }

 private:
  static constexpr std::int64_t rows_at_once = 8 * tile_rows;  // stay in the second cache

  /// One part of the sum, in blocks of whole groups and nearly equal length.
  void run_part(std::int64_t begin, std::int64_t end) {
    const std::int64_t num_blocks = std::max<std::int64_t>(1, divide_up(end - begin, Kernel::block_elements));
    const std::int64_t length = Grid::round_up(divide_up(end - begin, num_blocks), block);
    const bool may_keep = largest_.sum > Kernel::block_elements;
    const std::int64_t size = largest_.rows * largest_.cols, kept = may_keep ? size : tile_size;
    float* sums = scratch_.chains.template get<float>(kept + tree_levels(p_.leaves) * size);
    trees_ = {sums + kept, size, p_.leaves};
    std::int64_t at = begin;
    do {
      const std::int64_t count = std::min(end - at, length);
      pack_b(at, count);
      run_tiles(at, count, sums, num_blocks > 1, at == begin, at + count == end);
      at += count;
      group_ += divide_up(count, group_size_);
    } while (at < end);
  }

  std::int64_t most_elements() const { return std::min(Grid::round_up(largest_.sum, block), Kernel::block_elements); }

  /// Lines [line, line + lines) of a side, at most `width`, as one panel.
  template <std::int64_t width, bool transposed>
  void pack(const ScaledSide& side, std::int64_t line, std::int64_t lines, std::int64_t at, std::int64_t count,
            Unit* dst, float* scales) const {
    for (std::int64_t g = 0; g < divide_up(count, group_size_); ++g)
      side.scales_of(line, lines, group_ + g, scales + g * width);
    if (promotion_ == Promotion::none)
      pack_elements<width, transposed, true>(side, line, lines, at, count, dst, scales);
    else
      pack_elements<width, transposed, false>(side, line, lines, at, count, dst, scales);
  }

  template <std::int64_t width, bool transposed, bool scaled>
  static void pack_elements(const ScaledSide& side, std::int64_t line, std::int64_t lines, std::int64_t at,
                            std::int64_t count, Unit* dst, const float* scales) {
    if (side.is_along())
      return Kernel::template pack_along<width, transposed, scaled>({side.at(line, at), side.stride()}, lines, count,
                                                                    scales, dst);
    for (std::int64_t s = 0; s < count; s += block)  // a panel's end is a jump
      Kernel::template pack_across<width, scaled>(
          {side.at(line, at + s), side.stride()}, lines, std::min(block, count - s),
          scales + s / ScaledFormat::mx_block * width, dst + Kernel::steps(s) * width);
  }

  void pack_b(std::int64_t at, std::int64_t count) {
    const std::int64_t panel = Kernel::steps(count) * tile_cols, groups = divide_up(count, group_size_) * tile_cols;
    const std::int64_t most = largest_.cols * Kernel::steps(most_elements());
    Unit* packed = scratch_.b.template get<Unit>(most + largest_.cols * divide_up(most_elements(), group_size_));
    b_ = packed, b_scales_ = reinterpret_cast<float*>(packed + most);
    for (std::int64_t j = 0; j < cols_; j += tile_cols)
      pack<tile_cols, true>(p_.b, col_ + j, std::min(tile_cols, cols_ - j), at, count, b_ + j / tile_cols * panel,
                            b_scales_ + j / tile_cols * groups);
  }

  /// Tiles of rows [begin, end) of the block.
  void pack_a(std::int64_t begin, std::int64_t end, std::int64_t at, std::int64_t count) {
    const std::int64_t panel = Kernel::steps(count) * tile_rows, groups = divide_up(count, group_size_) * tile_rows;
    const std::int64_t most = rows_at_once * Kernel::steps(most_elements());
    Unit* packed = scratch_.a.template get<Unit>(most + rows_at_once * divide_up(most_elements(), group_size_));
    a_ = packed, a_scales_ = reinterpret_cast<float*>(packed + most);
    for (std::int64_t i = begin; i < end; i += tile_rows)
      pack<tile_rows, false>(p_.a, row_ + i, std::min(tile_rows, end - i), at, count,
                             a_ + (i - begin) / tile_rows * panel, a_scales_ + (i - begin) / tile_rows * groups);
  }

  void run_tiles(std::int64_t at, std::int64_t count, float* sums, bool keep, bool first, bool last) {
    const std::int64_t steps = Kernel::steps(count), groups = divide_up(count, group_size_);
    const std::int64_t num_panels = divide_up(cols_, tile_cols), unit = sizeof(Unit);
    PackedTile<Unit> t;
    t.count = count, t.first = first;
    t.a_row = p_.a.is_along() ? steps * unit : unit;
    t.a_step = p_.a.is_along() ? unit : tile_rows * unit;
    for (std::int64_t begin = 0; begin < rows_; begin += rows_at_once) {
      const std::int64_t end = std::min(rows_, begin + rows_at_once);
      pack_a(begin, end, at, count);
      for (std::int64_t j = 0; j < cols_; j += tile_cols) {
        t.cols = std::min(tile_cols, cols_ - j);
        t.b = b_ + j * steps, t.b_scales = b_scales_ + j * groups;
        for (std::int64_t i = begin; i < end; i += tile_rows) {
          const std::int64_t tile = (i / tile_rows * num_panels + j / tile_cols) * tile_size;
          t.rows = std::min(tile_rows, rows_ - i);
          t.a = reinterpret_cast<const std::byte*>(a_ + (i - begin) * steps);
          t.a_scales = a_scales_ + (i - begin) * groups;
          t.sums = keep ? sums + tile : sums;
          multiply(t);
          if (last && (p_.leaves == 1 || trees_.joins(part_, tile, t.rows * tile_cols, t.sums)))
            Kernel::finish(p_.out, row_ + i, col_ + j, t.rows, t.cols, t.sums);
        }
      }
    }
  }

  void multiply(const PackedTile<Unit>& t) const {
    if (t.count == 0) std::fill_n(t.sums, tile_size, 0.0F);
    switch (promotion_) {
      case Promotion::none:
        return Kernel::template multiply<Promotion::none>(t);
      case Promotion::by_tile:
        return Kernel::template multiply<Promotion::by_tile>(t);
      case Promotion::by_column:
        return Kernel::template multiply<Promotion::by_column>(t);
    }
  }

  const ScaledProduct& p_;
  std::int64_t group_size_;
  Promotion promotion_;
  std::int64_t row_, rows_, col_, cols_;
  const Largest& largest_;
  ThreadScratch scratch_;
  LeafTrees<float> trees_;
  std::int64_t part_ = 0, group_ = 0;  ///< of the sum: the part, and the first group of the block at hand
  Unit *a_ = nullptr, *b_ = nullptr;
  float *a_scales_ = nullptr, *b_scales_ = nullptr;
};

template <class Kernel>
void run_scaled_blocked(const Stream& stream, const ScaledProblem& problem) {
  run_tasks<Kernel>(
      stream, problem.call, [&](std::int64_t g) { return problem.product(g); },
      [&](const ScaledProduct& p, std::int64_t row, std::int64_t rows, std::int64_t col, std::int64_t cols,
          const Largest& largest) { ScaledTask<Kernel>(problem, p, row, rows, col, cols, largest).run(); });
}

}  // namespace fourmi::linear
