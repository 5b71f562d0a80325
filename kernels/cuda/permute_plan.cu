// The counting sort of choices by expert, stable: choices are cut into tiles, a tile into segments of a warp. Counts of
// tiles are scanned an expert, then every warp places its segment in order, 32 choices at a time. Atomics only count.
// Bound by latency: the choices are read three times and written twice (4 bytes each), 1 us for 2^18 of them at the
// memory's speed, three launches and the host's wait beside it.
#include "kernels/cuda/dynamic_shared.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/operations.h"
#include "kernels/ops/permute.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 512, num_warps = threads / warp_size;
constexpr int most_tiles = 256;  // threads that scan an expert's tiles
constexpr std::int64_t most_experts = 1024;
static_assert((num_warps + 1) * most_experts * 4 <= shared_of_any_card);

struct Choices {
  const std::int32_t* experts;
  std::int64_t count, tile;
  int num_choices, num_experts, num_tiles;

  /// Of a choice that is not held here, or is behind the end: -1.
  __device__ int expert(std::int64_t i, std::int64_t end) const {
    const int e = i < end ? experts[i] : -1;
    return e < num_experts ? e : -1;
  }
};

/// counts[e][tile]; *wrong counts ids that are no expert's.
__global__ void __launch_bounds__(threads)
    count_tiles(Choices c, std::int32_t* __restrict__ counts, std::int32_t* __restrict__ wrong) {
  auto* const here = reinterpret_cast<std::int32_t*>(dynamic_shared());
  for (int e = static_cast<int>(threadIdx.x); e < c.num_experts; e += threads) here[e] = 0;
  __syncthreads();
  const std::int64_t begin = blockIdx.x * c.tile, end = min(begin + c.tile, c.count);
  for (std::int64_t i = begin + threadIdx.x; i < end; i += threads) {
    const int e = c.experts[i];
    if (e >= 0 && e < c.num_experts)
      atomicAdd(&here[e], 1);
    else if (e != -1)
      atomicAdd(wrong, 1);
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < c.num_experts; e += threads)
    counts[std::int64_t{e} * c.num_tiles + blockIdx.x] = here[e];
}

/// The sum of the values of this lane and those below.
__device__ int scan_warp(int x) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
#pragma unroll
  for (int step = 1; step < warp_size; step *= 2) {
    const int below = __shfl_up_sync(all_lanes, x, step);
    if (lane >= step) x += below;
  }
  return x;
}

/// A block an expert: its tiles' counts become the counts of the tiles before, totals[e] the sum.
__global__ void __launch_bounds__(most_tiles)
    scan_tiles(int num_tiles, std::int32_t* __restrict__ counts, std::int32_t* __restrict__ totals) {
  __shared__ int sums[most_tiles / warp_size];
  const int tile = static_cast<int>(threadIdx.x), warp = tile / warp_size;
  std::int32_t* const mine = counts + std::int64_t{blockIdx.x} * num_tiles + tile;
  const int count = tile < num_tiles ? *mine : 0;
  int sum = scan_warp(count);
  if (tile % warp_size == warp_size - 1) sums[warp] = sum;
  __syncthreads();
  for (int w = 0; w < warp; ++w) sum += sums[w];
  if (tile < num_tiles) *mine = sum - count;
  if (tile == most_tiles - 1) totals[blockIdx.x] = sum;
}

/// What the placing writes; row_token has `capacity` entries.
struct Plan {
  std::int32_t *offsets, *row_token, *row_of;
  std::int64_t capacity;
};

/// offsets[e], by one warp.
__device__ void scan_experts(const std::int32_t* totals, int num_experts, std::int32_t* offsets) {
  int before = 0;
  for (int first = 0; first < num_experts; first += warp_size) {
    const int e = first + static_cast<int>(threadIdx.x) % warp_size;
    const int total = e < num_experts ? totals[e] : 0, sum = before + scan_warp(total);
    if (e < num_experts) offsets[e] = sum - total;
    before = __shfl_sync(all_lanes, sum, warp_size - 1);
  }
}

/// Places this warp's segment, from the rows in next[e] on, 32 choices at a time: of those with one expert the lower
/// lane comes first.
__device__ void place(const Choices& c, const Plan& plan, std::int64_t begin, std::int64_t end, std::int32_t* next) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const unsigned below = (1u << lane) - 1;
  int e = c.expert(begin + lane, end);
  for (std::int64_t first = begin; first < end; first += warp_size) {
    const std::int64_t i = first + lane;
    const int after = c.expert(i + warp_size, end);  // on its way while this one is placed
    const unsigned peers = __match_any_sync(all_lanes, e);
    const int row = e >= 0 ? next[e] + __popc(peers & below) : -1;
    __syncwarp();
    if (e >= 0 && peers >> lane == 1) next[e] = row + 1;  // the last of its peers
    __syncwarp();
    if (i < end) plan.row_of[i] = row;
    if (row >= 0 && row < plan.capacity)
      plan.row_token[row] =
          static_cast<std::int32_t>(static_cast<std::uint32_t>(i) / static_cast<unsigned>(c.num_choices));
    e = after;
  }
}

/// Shared memory: the offsets of the experts, then for each warp its next row of each expert.
__global__ void __launch_bounds__(threads) place_tiles(Choices c, Plan plan, const std::int32_t* __restrict__ counts,
                                                       const std::int32_t* __restrict__ totals) {
  auto* const offsets = reinterpret_cast<std::int32_t*>(dynamic_shared());
  std::int32_t* const next = offsets + c.num_experts;
  const int E = c.num_experts, tid = static_cast<int>(threadIdx.x), lane = tid % warp_size, warp = tid / warp_size;
  for (int i = tid; i < num_warps * E; i += threads) next[i] = 0;
  __syncthreads();
  const std::int64_t tile_end = min((blockIdx.x + std::int64_t{1}) * c.tile, c.count);
  const std::int64_t begin = blockIdx.x * c.tile + c.tile / num_warps * warp;
  const std::int64_t end = min(begin + c.tile / num_warps, tile_end);
  if (warp == 0) scan_experts(totals, E, offsets);
  for (std::int64_t i = begin + lane; i < end; i += warp_size) {
    const int e = c.expert(i, end);
    if (e >= 0) atomicAdd(&next[warp * E + e], 1);
  }
  __syncthreads();
  for (int e = tid; e < E; e += threads) {
    int row = offsets[e] + counts[std::int64_t{e} * c.num_tiles + blockIdx.x];
    for (int w = 0; w < num_warps; ++w) {
      const int count = next[w * E + e];
      next[w * E + e] = row;
      row += count;
    }
    if (blockIdx.x == 0) {  // its first place tells of wrong ids until the host has seen it
      if (e > 0) plan.offsets[e] = offsets[e];
      if (e == E - 1) plan.offsets[E] = offsets[e] + totals[e];
    }
  }
  __syncthreads();
  place(c, plan, begin, end, next + warp * E);
}

}  // namespace

void permute_plan(const Stream& stream, const Tensor& experts_MK, std::span<std::int32_t> offsets,
                  const Tensor& row_token_R, const Tensor& row_of_MK) {
  const Span span(stream.timeline(), Work::dispatch, "permute_plan");
  const std::int64_t num_tokens = experts_MK.dim(0), num_choices = experts_MK.dim(1), n = num_tokens * num_choices;
  const auto num_experts = static_cast<std::int64_t>(offsets.size()) - 1;
  FOURMI_CHECK(num_experts >= 1 && num_experts <= most_experts && row_of_MK.num_elements() == n &&
                   n <= std::numeric_limits<std::int32_t>::max(),
               "{} offsets, experts {}, row_of {}", offsets.size(), to_string(experts_MK.shape),
               to_string(row_of_MK.shape));
  std::fill(offsets.begin(), offsets.end(), 0);
  if (n == 0) return;
  const CudaStream& s = on(stream);
  const std::int64_t tile = ceil_div(ceil_div(n, most_tiles), threads) * threads;
  const Choices c{
      pointer<std::int32_t>(experts_MK),  n, tile, static_cast<int>(num_choices), static_cast<int>(num_experts),
      static_cast<int>(ceil_div(n, tile))};
  auto* const found = s.workspace<std::int32_t>(num_experts * (c.num_tiles + 2) + 1);  // offsets; [0]: wrong ids
  std::int32_t *const totals = found + num_experts + 1, *const counts = totals + num_experts;
  const Plan plan{found, pointer<std::int32_t>(row_token_R), pointer<std::int32_t>(row_of_MK),
                  row_token_R.num_elements()};
  check(cudaMemsetAsync(found, 0, sizeof(*found), s.handle()), "clearing a count");
  const auto tiles = static_cast<unsigned>(c.num_tiles);
  launch(s, count_tiles, tiles, threads, num_experts * 4, c, counts, found);
  launch(s, scan_tiles, static_cast<unsigned>(num_experts), most_tiles, 0, c.num_tiles, counts, totals);
  launch(s, place_tiles, tiles, threads, (num_warps + 1) * num_experts * 4, c, plan, counts, totals);
  s.fetch_bytes(offsets.data(), found, static_cast<std::int64_t>(offsets.size_bytes()));
  FOURMI_CHECK(offsets[0] == 0, "{} choices of no expert among {}", offsets[0], num_experts);
  FOURMI_CHECK(offsets.back() <= row_token_R.num_elements(), "{} rows, row_token {}", offsets.back(),
               to_string(row_token_R.shape));
}

}  // namespace fourmi::cuda
