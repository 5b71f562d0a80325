// Counting what quantisers did, by reading what they read and what they wrote: 3 or 5 bytes an element. For the guard,
// which looks now and then. Counts are exact; the two sums in f64 go up rows and columns lane by lane, over the lanes
// of a warp and the warps of a block in halves, and over the blocks in order: the same bits each time, others than the
// CPU's.
#include <vector>

#include "kernels/cuda/quantize_statistics.h"
#include "kernels/cuda/scaled_layout.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256, rows_at_once = threads / warp_size;
constexpr std::int64_t most_blocks = 512;  // not the card's number: the order of sums is the same on each

struct Counts {
  long long saturated = 0, underflows = 0, not_finite = 0;
  double squared_error = 0, squares = 0;
  std::uint32_t amax = 0;  ///< bits
};

/// A warp a row.
template <class X>
__global__ void __launch_bounds__(threads) count_rows(const X* __restrict__ x, const ScaledLayout q, std::int64_t first,
                                                      std::int64_t past, Counts* __restrict__ of_block) {
  constexpr int warps = threads / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  Counts mine;
  for (std::int64_t r = first + blockIdx.x * warps + warp; r < past; r += std::int64_t{gridDim.x} * warps) {
    const ScaledLayout::Row row = q.row(r);
    for (int column = lane; column < q.K; column += warp_size) {
      const float value = widen<float>(x[r * q.K + column]);
      const std::uint8_t element = row.elements[column];
      const float scale = q.scale(row, column);
      mine.saturated += (element & 0x7f) == 0x7e;
      mine.underflows += (element & 0x7f) == 0 && value != 0;
      mine.not_finite += scale != scale;
      mine.amax = max(mine.amax, magnitude_bits(value));
      if (scale != scale) continue;
      const auto decoded = static_cast<double>(float8_e4m3::from_bits(element)) * static_cast<double>(scale);
      const double error = decoded - static_cast<double>(value);
      mine.squared_error += error * error;
      mine.squares += static_cast<double>(value) * static_cast<double>(value);
    }
  }
  __shared__ long long counts[warp_size];
  __shared__ double sums[warp_size];
  __shared__ std::uint32_t most[warps];
  mine.amax = lane_group_max<warp_size>(mine.amax);
  if (lane == 0) most[warp] = mine.amax;
  mine.saturated = block_sum(mine.saturated, counts);
  mine.underflows = block_sum(mine.underflows, counts);
  mine.not_finite = block_sum(mine.not_finite, counts);
  mine.squared_error = block_sum(mine.squared_error, sums);
  mine.squares = block_sum(mine.squares, sums);
  if (threadIdx.x != 0) return;
  for (int w = 1; w < warps; ++w) mine.amax = max(mine.amax, most[w]);
  of_block[blockIdx.x] = mine;
}

}  // namespace

void count_quantized(const CudaStream& stream, const Tensor& x, const Tensor& q, std::int64_t first, std::int64_t count,
                     QuantizeStatistics& stats) {
  if (count == 0 || x.num_elements() == 0) return;
  const std::int64_t blocks = std::min(most_blocks, ceil_div(count, rows_at_once));
  auto* const partials = stream.workspace<Counts>(blocks);
  visit_quantized(x, "quantize", [&]<class X>(std::type_identity<X>) {
    launch(stream, count_rows<X>, static_cast<unsigned>(blocks), threads, 0, pointer<X>(x), scaled_layout(q), first,
           first + count, partials);
  });
  std::vector<Counts> all(static_cast<std::size_t>(blocks));
  stream.fetch_bytes(all.data(), partials, blocks * std::int64_t{sizeof(Counts)});
  for (const Counts& c : all) {
    stats.num_saturated += c.saturated;
    stats.num_underflows += c.underflows;
    stats.num_not_finite += c.not_finite;
    stats.squared_error += c.squared_error;
    stats.squares += c.squares;
    const auto magnitude = std::bit_cast<float>(c.amax);
    if (!(magnitude <= stats.amax)) stats.amax = stats.amax != stats.amax ? stats.amax : magnitude;
  }
  stats.num_elements += count * x.dim(x.shape.rank - 1);
}

}  // namespace fourmi::cuda
