// The kernel that all products share. A block stays on its multiprocessor and does tile after tile. One thread has the
// copy engine bring steps into a ring of stages; two warpgroups multiply them by tensor cores, 64 rows each. For .cu
// files.
//
// A Work is the kernel's argument and says what differs:
//   Math                                what a warpgroup does with steps: promoted_sums.h, whole_sums.h
//   stages()                            a Stages, constant
//   prefetch_maps()                     of its tensor maps
//   offsets, order, tokens, block_tokens, tiles_of_block(order)    what the table of groups is filled from
//   find(table, index, tile)            the tile of an index, or false
//   steps(table, tile), panels(tile)    of a tile
//   load_step(...), load_scales(...)    begin a step's copies; without scales there is no load_scales()
//   prefetch_result(tile, k, steps)     there may be one: asks at step k for what store() will read
//   store(...)                          what becomes of a panel's sums
#pragma once

#include "kernels/cuda/dynamic_shared.h"
#include "kernels/cuda/hopper/plan.h"
#include "kernels/cuda/hopper/ptx.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/stream.h"

namespace fourmi::cuda::hopper {

/// The stage that is next, and the parity of its phase: 0 when the ring is gone through for the first time.
template <int size>
struct Ring {
  int stage = 0;
  unsigned parity = 0;

  __device__ void advance() {
    if (++stage == size) stage = 0, parity ^= 1u;
  }
};

/// Of a stage: `full` when its copies have come, `empty` when all warps that read it have.
struct Barriers {
  Barrier* first;

  __device__ Barrier* full(int stage) const { return first + 2 * stage; }
  __device__ Barrier* empty(int stage) const { return first + 2 * stage + 1; }
  /// By one thread; the others may use them after a barrier of the block.
  __device__ void init(int stages) const {
    for (int i = 0; i < stages; ++i) {
      hopper::init(full(i), 1);
      hopper::init(empty(i), math_threads / warp_size);
    }
    fence_init();
  }
};

/// Fills a table for groups whose tokens are cut into blocks of `size`, each so many tiles. By one whole warp.
__device__ inline void fill(GroupTable& table, const std::int32_t* offsets, int groups, int tokens, int size,
                            int tiles) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size, each = blocks_of(groups, warp_size);
  const int begin = min(groups, lane * each), end = min(groups, begin + each);
  const auto row = [&](int group) { return offsets ? offsets[group] : group * tokens; };
  int before = 0;  // tiles of this lane's groups, then of all up to them
  for (int g = begin; g < end; ++g) before += blocks_of(row(g + 1) - row(g), size) * tiles;
  const int mine = before;
#pragma unroll
  for (int away = 1; away < warp_size; away *= 2) {
    const int other = __shfl_up_sync(all_lanes, before, away);
    if (lane >= away) before += other;
  }
  int first = before - mine;
  for (int g = begin; g < end; ++g) {
    table.row[g] = row(g), table.first[g] = first;
    first += blocks_of(row(g + 1) - row(g), size) * tiles;
  }
  if (lane == warp_size - 1) table.row[groups] = row(groups), table.first[groups] = before;
}

/// One thread, which has the copy engine fill stages, and says with the first step of a tile which one it is.
template <class Work>
__device__ void bring_steps(const Work& work, std::byte* shared, const GroupTable& table, const Barriers barriers) {
  constexpr Stages stages = Work::stages();
  Ring<stages.count()> ring;
  [[maybe_unused]] Ring<stages.entries()> entry;
  Tile tile;
  for (unsigned index = blockIdx.x; work.find(table, static_cast<int>(index), tile); index += gridDim.x) {
    const int count = work.panels(tile), steps = work.steps(table, tile);
    for (int k = 0; k < steps; ++k, ring.advance()) {
      const bool with_scales = stages.entry_bytes() > 0 && k % stages.steps_of_scales == 0;
      Barrier* const full = barriers.full(ring.stage);
      wait(barriers.empty(ring.stage), ring.parity ^ 1u);
      if (k == 0) *reinterpret_cast<Tile*>(shared + stages.tile(ring.stage)) = tile;
      arrive_expecting(full, static_cast<unsigned>(stages.bytes_of_step(count, with_scales)));
      work.load_step(table, tile, count, k, shared, ring.stage, full);
      if constexpr (requires { work.prefetch_result(tile, k, steps); }) work.prefetch_result(tile, k, steps);
      if constexpr (stages.entry_bytes() > 0) {
        if (!with_scales) continue;
        work.load_scales(table, tile, count, k, shared, entry.stage, full);
        entry.advance();
      }
    }
  }
  wait(barriers.empty(ring.stage), ring.parity ^ 1u);
  *reinterpret_cast<Tile*>(shared + stages.tile(ring.stage)) = {};
  arrive(barriers.full(ring.stage));
}

template <class Work>
__global__ void __launch_bounds__(threads, 1) multiply(const __grid_constant__ Work work) {
  constexpr Stages stages = Work::stages();
  std::byte* const shared = dynamic_shared();
  auto& table = *reinterpret_cast<GroupTable*>(shared + stages.table());
  const Barriers barriers{reinterpret_cast<Barrier*>(shared + stages.barriers())};
  const int warp = __shfl_sync(all_lanes, static_cast<int>(threadIdx.x) / warp_size, 0);  // a warp's lanes know it
  if (threadIdx.x == 0) barriers.init(stages.count());
  if (threadIdx.x == 2 * warp_size) work.prefetch_maps();
  if (warp == 1)
    fill(table, work.offsets, work.order.groups, work.tokens, Work::block_tokens, Work::tiles_of_block(work.order));
  __syncthreads();
  const int warpgroup = warp / 4;
  if (warpgroup == math_threads / 128) {
    give_registers<copy_registers>();
    if (warp == math_threads / warp_size && elected()) bring_steps(work, shared, table, barriers);
  } else {
    take_registers<math_registers>();
    Work::Math::multiply_tiles(work, shared, table, barriers, 64 * warpgroup);
  }
}

/// Throws for a stream of a card that has not got their units.
inline void check_card(const CudaStream& stream) {
  const Capability card = stream.card().capability;
  FOURMI_CHECK(card.has_hoppers_units(), "Hopper's products on a card of compute capability {}.{}", card.major,
               card.minor);
}

}  // namespace fourmi::cuda::hopper
