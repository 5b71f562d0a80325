// Sums of e4m3 operands: each step of a panel is a sum of its own, promoted to the tile's in f32 while the other
// warpgroup's products run. A Work (pipeline.h) has besides:
//   Scales, scales(...), promote(...)   what a lane knows of a step's scales, and total += scales * sum
// For .cu files.
#pragma once

#include "kernels/cuda/hopper/pipeline.h"

namespace fourmi::cuda::hopper {

/// Begins sum = a b^T over one step: 64 rows of a, 128 of b.
__device__ inline void begin_step(float (&sum)[64], const void* a, const void* b) {
  const Operand first_a = operand_of_rows(shared_address(a)), first_b = operand_of_rows(shared_address(b));
  fence_products();
  multiply_64_128_32(sum, first_a, first_b);
#pragma unroll
  for (unsigned k = 32; k < step; k += 32) multiply_add_64_128_32(sum, advanced(first_a, k), advanced(first_b, k));
  commit_products();
}

struct PromotedSums {
  /// A warpgroup, which has 64 of a tile's rows.
  template <class Work>
  static __device__ void multiply_tiles(const Work& work, const std::byte* shared, const GroupTable& table,
                                        const Barriers barriers, int first_row) {
    constexpr Stages stages = Work::stages();
    const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size % 4;
    const int lane_row = first_row + 16 * warp + lane / 4;  // and 8 more
    Ring<stages.count()> ring;
    Ring<stages.entries()> entry;
    float total[stages.panels][64];
    while (true) {
      wait(barriers.full(ring.stage), ring.parity);
      const Tile tile = *reinterpret_cast<const Tile*>(shared + stages.tile(ring.stage));
      if (tile.panel < 0) return;
      const int count = work.panels(tile), steps = work.steps(table, tile);
      const bool has_rows = tile.row + first_row < tile.row_end;
#pragma unroll
      for (int p = 0; p < stages.panels; ++p)
#pragma unroll
        for (int i = 0; i < 64; ++i) total[p][i] = 0;
      for (int k = 0; k < steps; ++k, ring.advance()) {
        wait(barriers.full(ring.stage), ring.parity);
        const typename Work::Scales scales = work.scales(shared, entry.stage, k, lane_row);
#pragma unroll
        for (int p = 0; p < stages.panels; ++p) {
          if (p >= count) continue;
          const auto release = [&] {
            if (p != count - 1) return;
            __syncwarp();
            if (lane == 0) arrive(barriers.empty(ring.stage));
          };
          if (!has_rows) {
            release();
            continue;
          }
          float sum[64];
          begin_step(sum, shared + stages.rows(ring.stage) + first_row * step, shared + stages.panel(ring.stage, p));
          wait_products<0>(sum);
          release();
          Work::promote(total[p], sum, scales, p);
        }
        if ((k + 1) % stages.steps_of_scales == 0 || k + 1 == steps) entry.advance();
      }
      work.store(total[0], tile, tile.row + lane_row, tile.panel);
      if (count == 2) work.store(total[stages.panels - 1], tile, tile.row + lane_row, tile.panel + 1);
    }
  }
};

}  // namespace fourmi::cuda::hopper
