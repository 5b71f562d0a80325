// Sums of bf16 operands: one from a tile's first step to its last, in the registers that tensor cores add to. While a
// step is multiplied the one before it is given back to the copy engine. A Work (pipeline.h) has besides:
//   along_rows, along_panels   how rows and panels lie in shared memory
//   length(table, tile)        what a tile sums, of which all steps but the last have bf16_step
//   clears                     behind the last step's end there may be others' elements, which have to become zeros
// For .cu files.
#pragma once

#include "kernels/cuda/hopper/bf16_ptx.h"
#include "kernels/cuda/hopper/pipeline.h"

namespace fourmi::cuda::hopper {

/// Elements of the sum that one product of tensor cores takes.
inline constexpr int sum_of_product = 16;

/// Lines from `from` on.
template <Along along>
__device__ Operand bf16_operand(const void* from) {
  if constexpr (along == Along::sum) return operand_of_rows(shared_address(from));
  return operand_of_columns(shared_address(from), slab_bytes);
}
/// The same, i products further in the sum.
template <Along along>
__device__ Operand products_further(Operand operand, int i) {
  return advanced(operand, static_cast<unsigned>(i * sum_of_product * (along == Along::sum ? 2 : step_bytes)));
}

/// Makes zeros of the elements of the sum from `end` to the next multiple of what a product takes, in a slab of rows
/// and in all of panels. By one warpgroup; the other one may do the same to the panels meanwhile.
template <int panel_slabs>
__device__ void clear_behind(std::byte* rows, std::byte* panels, int end, int warpgroup) {
  constexpr int piece = sizeof(uint4), pieces = step_bytes / piece;
  const int lines = blocks_of(end, sum_of_product) * sum_of_product - end;
  for (int i = static_cast<int>(threadIdx.x) % 128; i < lines * pieces * (1 + panel_slabs); i += 128) {
    const int slab = i / (lines * pieces), at = end * step_bytes + i % (lines * pieces) * piece;
    std::byte* const begin = slab == 0 ? rows : panels + (slab - 1) * slab_bytes;
    *reinterpret_cast<uint4*>(begin + at) = uint4{0, 0, 0, 0};
  }
  show_writes_to_products(warpgroup);
}

struct WholeSums {
  /// A warpgroup, which has 64 of a tile's rows.
  template <class Work>
  static __device__ void multiply_tiles(const Work& work, std::byte* shared, const GroupTable& table,
                                        const Barriers barriers, int first_row) {
    constexpr Stages stages = Work::stages();
    Ring<stages.count()> ring;
    while (true) {
      wait(barriers.full(ring.stage), ring.parity);
      const Tile tile = *reinterpret_cast<const Tile*>(shared + stages.tile(ring.stage));
      if (tile.panel < 0) return;
      if (work.panels(tile) == 1)
        multiply_tile<1>(work, shared, table, barriers, first_row, tile, ring);
      else if constexpr (stages.panels == 2)
        multiply_tile<2>(work, shared, table, barriers, first_row, tile, ring);
    }
  }

 private:
  template <int panels, class Work, int size>
  static __device__ void multiply_tile(const Work& work, std::byte* shared, const GroupTable& table,
                                       const Barriers barriers, int first_row, const Tile& tile, Ring<size>& ring) {
    constexpr Stages stages = Work::stages();
    const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size % 4;
    const auto release = [&](int stage, bool is_read) {
      __syncwarp();
      if (lane == 0 && is_read) arrive(barriers.empty(stage));
    };
    const int length = work.length(table, tile), steps = blocks_of(length, bf16_step);
    if (tile.row + first_row >= tile.row_end) {  // the other warpgroup has all rows
      for (int k = 0; k < steps; ++k, ring.advance()) {
        wait(barriers.full(ring.stage), ring.parity);
        release(ring.stage, true);
      }
      return;
    }
    float sum[panels * 64];
#pragma unroll
    for (float& s : sum) s = 0;
    // Both layouts have 128 bytes for each of the 64 rows, or a slab.
    const auto rows_of = [&](int stage) { return shared + stages.rows(stage) + first_row * step_bytes; };
    const auto columns_of = [&](int stage) { return shared + stages.panel(stage, 0); };
    const auto multiply_one = [&](int stage, int i) {
      const Operand a = bf16_operand<Work::along_rows>(rows_of(stage)),
                    b = bf16_operand<Work::along_panels>(columns_of(stage));
      multiply_add<Work::along_rows, Work::along_panels>(sum, products_further<Work::along_rows>(a, i),
                                                         products_further<Work::along_panels>(b, i));
    };
    int before = 0;  // the stage whose products are under way
    for (int k = 0; k < length / bf16_step; ++k, ring.advance()) {
      wait(barriers.full(ring.stage), ring.parity);
      fence_products();
#pragma unroll
      for (int i = 0; i < bf16_step / sum_of_product; ++i) multiply_one(ring.stage, i);
      commit_products();
      wait_products<1>();
      release(before, k > 0);
      before = ring.stage;
    }
    wait_all_products(sum);
    release(before, length >= bf16_step);
    if (const int rest = length % bf16_step; rest > 0) {
      wait(barriers.full(ring.stage), ring.parity);
      if constexpr (Work::clears)
        clear_behind<panels * panel_columns / slab_lines>(rows_of(ring.stage), columns_of(ring.stage), rest,
                                                          first_row / 64);
#pragma unroll 1
      for (int i = 0; i < blocks_of(rest, sum_of_product); ++i) {  // one by one: else ptxas awaits each, above as well
        fence_products();
        multiply_one(ring.stage, i);
        commit_products();
        wait_all_products(sum);
      }
      release(ring.stage, true);
      ring.advance();
    }
    const int row = tile.row + first_row + 16 * warp + lane / 4;  // and 8 more
#pragma unroll
    for (int p = 0; p < panels; ++p)
      work.store(*reinterpret_cast<float(*)[64]>(sum + 64 * p), tile, row, tile.panel + p);
  }
};

}  // namespace fourmi::cuda::hopper
