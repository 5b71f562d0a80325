// Blocked products. A task owns a block of the output. It walks its sum in blocks of steps; per block it packs the
// columns of b into panels (and the rows of a where they cannot be read in place), then runs a microkernel tile by
// tile. Tiles whose sum spans several blocks keep their unfinished chains in scratch, which changes no bit.
//
// A Kernel provides
//   Input, Unit (element of packed panels), Acc, tile_rows, tile_cols, block_elements (of the sum, even)
//   steps(n)            Units a row or column takes for n elements of the sum
//   reads_in_place(n)   can rows of a that are contiguous in the sum be used unpacked?
//   pack_rows(src, stride, rows, n, dst)           contiguous in the sum -> [rows][steps]
//   pack_transposed(src, stride, cols, n, dst)     contiguous in the sum -> [steps][tile_cols], absent columns zero
//   pack_strided<width>(src, stride, cols, n, dst) contiguous across     -> [steps][width], absent columns zero
//   finish(out, row, col, rows, cols, chains)      as linear::finish
//   finishes(out), multiply_and_finish(...)        optional: both in one, without a way through memory
//   multiply(rows, cols, a, a_row, a_step, b, steps, chains, first)      strides of a in bytes, chains
//   [rows][tile_cols]
#pragma once

#include <algorithm>

#include "kernels/cpu/linear_finish.h"
#include "kernels/cpu/linear_scratch.h"
#include "kernels/numerics/power_of_two.h"

namespace fourmi::linear {

constexpr std::int64_t divide_up(std::int64_t n, std::int64_t d) {
  return (n + d - 1) / d;
}

/// The output's grid of tasks. Its choice moves work between threads, never bits.
struct Grid {
  std::int64_t block_rows = 0, block_cols = 0, num_row_blocks = 0, num_col_blocks = 0;

  Grid(std::int64_t rows, std::int64_t cols, std::int64_t tile_rows, std::int64_t tile_cols, std::int64_t num_groups,
       int num_threads, DType out) {
    num_row_blocks = divide_up(rows, most_rows(out));
    num_col_blocks = divide_up(cols, most_cols);
    const std::int64_t wanted = num_threads == 1 ? 1 : 3 * num_threads;
    // First narrower (down to two tiles), then lower (down to four tiles): a column block is packed once per row block.
    auto tasks = [&] { return num_groups * num_row_blocks * num_col_blocks; };
    if (tasks() < wanted)
      num_col_blocks = std::clamp(divide_up(wanted * num_col_blocks, std::max<std::int64_t>(tasks(), 1)),
                                  num_col_blocks, std::max(num_col_blocks, cols / (2 * tile_cols)));
    if (tasks() < wanted)
      num_row_blocks = std::clamp(divide_up(wanted * num_row_blocks, std::max<std::int64_t>(tasks(), 1)),
                                  num_row_blocks, std::max(num_row_blocks, rows / (4 * tile_rows)));
    block_rows = round_up(divide_up(rows, std::max<std::int64_t>(num_row_blocks, 1)), tile_rows);
    block_cols = round_up(divide_up(cols, std::max<std::int64_t>(num_col_blocks, 1)), tile_cols);
  }

  static std::int64_t round_up(std::int64_t n, std::int64_t to) { return divide_up(n, to) * to; }
  /// Of a block. One of fx128 totals is visited once per partial and should stay in the second cache.
  static std::int64_t most_rows(DType out) { return out == DType::fx128 ? 120 : 768; }
  static constexpr std::int64_t most_cols = 256;
};

/// The largest block that any cut of a call's rows into groups could bring, in whole tiles. Memory is asked for by this
/// and not by the block at hand, since how many rows an expert has, and all experts of a rank, changes from step to
/// step.
struct Largest {
  std::int64_t rows = 0, cols = 0, sum = 0;
};

/// The trees over leaves of a block's tiles.
template <class Acc>
struct LeafTrees {
  Acc* levels = nullptr;        ///< [levels of the tree][tile][tile_rows][tile_cols]
  std::int64_t level_size = 0;  ///< elements
  std::int64_t leaves = 1;

  /// Leaf number `part` of a tile, finished in `chains`, joins its tree; the tile is `at` elements into a level. Is
  /// that the root, which is then in `chains`?
  bool joins(std::int64_t part, std::int64_t at, std::int64_t count, Acc* chains) const {
    Acc* level = levels + at;
    for (std::int64_t i = part; i % 2 != 0; i /= 2, level += level_size)
      for (std::int64_t k = 0; k < count; ++k) chains[k] = level[k] + chains[k];
    if (part + 1 == leaves) return true;
    std::copy_n(chains, count, level);
    return false;
  }
};

/// One block of one product's output.
template <class Kernel>
class BlockTask {
 public:
  using T = typename Kernel::Input;
  using Unit = typename Kernel::Unit;
  using Acc = typename Kernel::Acc;
  static constexpr std::int64_t tile_rows = Kernel::tile_rows, tile_cols = Kernel::tile_cols;

  BlockTask(const Product<T>& p, std::int64_t row, std::int64_t rows, std::int64_t col, std::int64_t cols,
            const Largest& largest)
      : p_(p), row_(row), rows_(rows), col_(col), cols_(cols), largest_(largest), scratch_(thread_scratch()) {}

  void run() {
    std::int64_t begin = 0;
    part_ = 0;
    do {
      const std::int64_t end = p_.part_end(begin);
      run_part(begin, end);
      begin = end;
      ++part_;
    } while (begin < p_.sum);
  }

 private:
  /// One part of the sum. Blocks of nearly equal even length, so that no short one is left over.
  void run_part(std::int64_t begin, std::int64_t end) {
    const std::int64_t num_blocks = std::max<std::int64_t>(1, divide_up(end - begin, Kernel::block_elements));
    const std::int64_t length = Grid::round_up(divide_up(end - begin, num_blocks), 2);
    const bool may_keep = largest_.sum > Kernel::block_elements;
    const std::int64_t block = largest_.rows * largest_.cols, kept = may_keep ? block : tile_rows * tile_cols;
    Acc* chains = scratch_.chains.template get<Acc>(kept + tree_levels(p_.leaves) * block);
    trees_ = {chains + kept, block, p_.leaves};
    std::int64_t at = begin;
    do {
      const std::int64_t next = std::min(end, at + length);
      pack_b(at, next - at);
      pack_a(at, next - at);
      run_tiles(Kernel::steps(next - at), chains, num_blocks > 1, at == begin, next == end);
      at = next;
    } while (at < end);
  }

  void pack_b(std::int64_t at, std::int64_t count) {
    const std::int64_t steps = Kernel::steps(count);
    Unit* panel = scratch_.b.template get<Unit>(largest_.cols * most_steps());
    b_ = panel;
    for (std::int64_t j = 0; j < cols_; j += tile_cols, panel += steps * tile_cols) {
      const T* src = p_.b + (col_ + j) * p_.b_col + at * p_.b_sum;
      const std::int64_t cols = std::min(tile_cols, cols_ - j);
      if (p_.b_sum == 1)
        Kernel::pack_transposed(src, p_.b_col, cols, count, panel);
      else
        Kernel::template pack_strided<tile_cols>(src, p_.b_sum, cols, count, panel);
    }
  }

  void pack_a(std::int64_t at, std::int64_t count) {
    const T* src = p_.a + row_ * p_.a_row + at * p_.a_sum;
    const std::int64_t steps = Kernel::steps(count);
    a_step_ = sizeof(Unit);
    if (p_.a_sum == 1 && Kernel::reads_in_place(count)) {
      a_ = reinterpret_cast<const std::byte*>(src);
      a_row_ = p_.a_row * static_cast<std::int64_t>(sizeof(T));
      a_tile_ = a_row_ * tile_rows;
      return;
    }
    Unit* packed = scratch_.a.template get<Unit>(largest_.rows * most_steps());
    a_ = reinterpret_cast<const std::byte*>(packed);
    a_tile_ = steps * tile_rows * static_cast<std::int64_t>(sizeof(Unit));
    if (p_.a_sum == 1) {
      a_row_ = steps * static_cast<std::int64_t>(sizeof(Unit));
      Kernel::pack_rows(src, p_.a_row, rows_, count, packed);
    } else {
      a_row_ = sizeof(Unit);
      a_step_ = tile_rows * static_cast<std::int64_t>(sizeof(Unit));
      for (std::int64_t i = 0; i < rows_; i += tile_rows, packed += steps * tile_rows)
        Kernel::template pack_strided<tile_rows>(src + i * p_.a_row, p_.a_sum, std::min(tile_rows, rows_ - i), count,
                                                 packed);
    }
  }

  std::int64_t most_steps() const { return Kernel::steps(std::min(largest_.sum, Kernel::block_elements)); }

  static constexpr bool can_finish = requires(Output out) { Kernel::finishes(out); };

  /// Rows in groups that stay in the second cache while all panels of b pass by.
  void run_tiles(std::int64_t steps, Acc* chains, bool keep, bool first, bool last) {
    constexpr std::int64_t group = 8 * tile_rows;
    const std::int64_t num_panels = divide_up(cols_, tile_cols);
    for (std::int64_t begin = 0; begin < rows_; begin += group) {
      const std::int64_t end = std::min(rows_, begin + group);
      const Unit* panel = b_;
      for (std::int64_t j = 0; j < cols_; j += tile_cols, panel += steps * tile_cols)
        for (std::int64_t i = begin; i < end; i += tile_rows) {
          const std::int64_t tile = i / tile_rows * num_panels + j / tile_cols;
          run_tile(i, j, a_ + i / tile_rows * a_tile_, panel, steps,
                   keep ? chains + tile * tile_rows * tile_cols : chains, first, last);
        }
    }
  }

  void run_tile(std::int64_t i, std::int64_t j, const std::byte* a, const Unit* panel, std::int64_t steps, Acc* chains,
                bool first, bool last) {
    const std::int64_t rows = std::min(tile_rows, rows_ - i), cols = std::min(tile_cols, cols_ - j);
    if (p_.leaves > 1) {
      Kernel::multiply(rows, cols, a, a_row_, a_step_, panel, steps, chains, first);
      const std::int64_t tile = i / tile_rows * divide_up(cols_, tile_cols) + j / tile_cols;
      if (last && trees_.joins(part_, tile * tile_rows * tile_cols, rows * tile_cols, chains))
        Kernel::finish(p_.out, row_ + i, col_ + j, rows, cols, chains);
      return;
    }
    if constexpr (can_finish)
      if (last && Kernel::finishes(p_.out))
        return Kernel::multiply_and_finish(p_.out, row_ + i, col_ + j, rows, cols, a, a_row_, a_step_, panel, steps,
                                           chains, first);
    Kernel::multiply(rows, cols, a, a_row_, a_step_, panel, steps, chains, first);
    if (last) Kernel::finish(p_.out, row_ + i, col_ + j, rows, cols, chains);
  }

  const Product<T>& p_;
  std::int64_t row_, rows_, col_, cols_;
  const Largest& largest_;
  ThreadScratch scratch_;
  LeafTrees<Acc> trees_;
  std::int64_t part_ = 0;
  const Unit* b_ = nullptr;
  const std::byte* a_ = nullptr;
  std::int64_t a_row_ = 0, a_step_ = 0, a_tile_ = 0;  ///< bytes
};

/// Runs a task for each block of each group's output: task(product, row, rows, col, cols, largest), the product being
/// product_of(group).
template <class Kernel, class ProductOf, class Task>
void run_tasks(const Stream& stream, const Problem& problem, const ProductOf& product_of, const Task& task) {
  const std::int64_t num_groups = problem.num_groups();
  std::int64_t rows = 0, cols = 0, work = 0;
  Largest all;  // that the call's tensors have room for, then cut down to a block
  for (std::int64_t g = 0; g < num_groups; ++g) {
    const Sums p = problem.sums(g);
    rows = std::max(rows, p.rows);
    cols = p.cols;
    work += p.rows * p.cols * p.sum;
    const bool sum_is_cut = problem.kind == Kind::backward_weight;  // by the groups; else the rows are
    all.rows = sum_is_cut ? rows : problem.num_rows;                // an empty group has none
    all.sum = sum_is_cut ? problem.num_rows : p.sum;
  }
  all.rows = Grid::round_up(std::min(all.rows, Grid::most_rows(problem.out.dtype)), Kernel::tile_rows);
  all.cols = Grid::round_up(std::min(cols, Grid::most_cols), Kernel::tile_cols);
  constexpr std::int64_t least_work = 1 << 20;  // of a thread: below it, waking one costs more than it saves
  const Grid grid(rows, cols, Kernel::tile_rows, Kernel::tile_cols, num_groups, stream.pool().num_threads(),
                  problem.out.dtype);
  const std::int64_t blocks = grid.num_row_blocks * grid.num_col_blocks;
  const std::int64_t num_tasks = num_groups * blocks;
  const std::int64_t grain =
      std::clamp<std::int64_t>(num_tasks * least_work / std::max<std::int64_t>(work, 1), 1, num_tasks + 1);
  stream.pool().parallel_for(num_tasks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto p = product_of(i / blocks);
      const std::int64_t row = i % blocks % grid.num_row_blocks * grid.block_rows;
      const std::int64_t col = i % blocks / grid.num_row_blocks * grid.block_cols;
      if (row >= p.rows || col >= p.cols) continue;
      task(p, row, std::min(grid.block_rows, p.rows - row), col, std::min(grid.block_cols, p.cols - col), all);
    }
  });
}

template <class Kernel>
void run_blocked(const Stream& stream, const Problem& problem) {
  using T = typename Kernel::Input;
  run_tasks<Kernel>(
      stream, problem, [&](std::int64_t g) { return problem.product<T>(g); },
      [](const Product<T>& p, std::int64_t row, std::int64_t rows, std::int64_t col, std::int64_t cols,
         const Largest& largest) { BlockTask<Kernel>(p, row, rows, col, cols, largest).run(); });
}

}  // namespace fourmi::linear
