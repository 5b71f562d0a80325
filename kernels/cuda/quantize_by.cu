// One scale for a run of rows. largest_magnitudes is bound by memory: it reads x once, 2 or 4 bytes an element, and
// writes nothing to speak of; maxima of integers, so that their order does not matter. quantize_by is quantize without
// the search for maxima: 3 or 5 bytes an element.
#include "kernels/cuda/operations.h"
#include "kernels/cuda/quantize_rows.h"
#include "kernels/cuda/quantize_squares.h"
#include "kernels/cuda/quantize_statistics.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256, loads = 4;
constexpr std::int64_t step = threads * 8;  // elements from one of a thread's eights to the next

/// A block takes `share` consecutive elements of [begin, end), whatever runs they are in. amax holds zeros.
template <bool whole, class X>
__global__ void __launch_bounds__(threads)
    largest(const X* __restrict__ x, const std::int32_t* __restrict__ borders, int count, std::int64_t K,
            std::int64_t begin, std::int64_t end, std::int64_t share, std::uint32_t* __restrict__ amax) {
  std::int64_t from = begin + blockIdx.x * share;
  end = min(end, from + share);
  if (from >= end) return;
  for (int run = last_not_above(borders, count, from / K); from < end; ++run) {
    const std::int64_t stop = min(end, borders[run + 1] * K);
    std::uint32_t most = 0;
    std::int64_t at = from + threadIdx.x * 8;
    for (; at + (loads - 1) * step + 8 <= stop; at += loads * step) {
      Eight<X> e[loads];
#pragma unroll
      for (int i = 0; i < loads; ++i) e[i] = take_eight<whole>(x + at + i * step, 8);
#pragma unroll
      for (int i = 0; i < loads; ++i) most = max(most, largest_bits(e[i]));
    }
    for (; at < stop; at += step)
      most = max(most, largest_bits(take_eight<whole>(x + at, static_cast<int>(min(std::int64_t{8}, stop - at)))));
    most = lane_group_max<warp_size>(most);
    if (threadIdx.x % warp_size == 0 && most > 0) atomicMax(amax + run, most);
    from = stop;
  }
}

void check_runs(std::span<const std::int32_t> runs, const Tensor& amax_G, std::int64_t rows, const char* what) {
  const auto n = static_cast<std::int64_t>(runs.size()) - 1;
  FOURMI_CHECK(n >= 0 && runs.front() >= 0 && runs.back() <= rows && amax_G.num_elements() >= n,
               "{}: {} borders of runs of {} rows, amax {}", what, runs.size(), rows, to_string(amax_G.shape));
  for (std::size_t i = 1; i < runs.size(); ++i)
    FOURMI_CHECK(runs[i - 1] <= runs[i], "{}: runs fall from {} to {}", what, runs[i - 1], runs[i]);
}

/// f(borders, first run) for as many runs at a time as an upload has room for.
template <class F>
void for_each_slice(std::span<const std::int32_t> runs, const F& f) {
  constexpr std::size_t most = CudaStream::slot_bytes / sizeof(std::int32_t) - 1;
  for (std::size_t first = 0; first + 1 < runs.size(); first += most)
    f(runs.subspan(first, std::min(most, runs.size() - 1 - first) + 1), first);
}

}  // namespace

void largest_magnitudes(const Stream& stream, const Tensor& x, std::span<const std::int32_t> runs,
                        const Tensor& amax_G) {
  const Span span(stream.timeline(), Work::quantise, "largest_magnitudes");
  check_runs(runs, amax_G, num_rows(x), "largest_magnitudes");
  const CudaStream& to = on(stream);
  const std::int64_t K = x.dim(x.shape.rank - 1);
  float* const amax = pointer<float>(amax_G);
  if (runs.size() == 1) return;
  check(cudaMemsetAsync(amax, 0, (runs.size() - 1) * sizeof(float), to.handle()), "largest_magnitudes");
  visit_quantized(x, "largest_magnitudes", [&]<class X>(std::type_identity<X>) {
    const X* const from = pointer<X>(x);
    for_each_slice(runs, [&](std::span<const std::int32_t> borders, std::size_t first) {
      const std::int64_t begin = borders.front() * K, end = borders.back() * K;
      if (begin == end) return;
      const std::int64_t most = 8 * to.card().num_multiprocessors;
      const std::int64_t share = ceil_div(ceil_div(end - begin, most), loads * step) * loads * step;
      visit_bool(is_vector_aligned<vector_length<X>>(from, K) && K % 8 == 0,
                 [&]<bool whole>(std::bool_constant<whole>) {
                   launch(to, largest<whole, X>, static_cast<unsigned>(ceil_div(end - begin, share)), threads, 0, from,
                          to.upload(borders), static_cast<int>(borders.size()) - 1, K, begin, end, share,
                          reinterpret_cast<std::uint32_t*>(amax + first));
                 });
    });
  });
}

void quantize_by(const Stream& stream, const Tensor& x, const Tensor& q, const Scaling& scaling,
                 std::span<const std::int32_t> runs, const Tensor& amax_G, QuantizeStatistics* stats) {
  const Span span(stream.timeline(), Work::quantise, "quantize_by");
  check_quantized(x, q, "quantize_by");
  check_runs(runs, amax_G, num_rows(x), "quantize_by");
  const float* const amax = pointer<float>(amax_G);
  for_each_slice(runs, [&](std::span<const std::int32_t> borders, std::size_t first) {
    const std::int64_t row = borders.front(), rows = borders.back() - row;
    if (rows == 0) return;
    GivenScales given{nullptr, amax + first, static_cast<int>(borders.size()) - 1, scaling.kind,
                      std::bit_cast<std::uint32_t>(scaling.floor)};
    if (q.dtype == DType::e4m3_panels) {
      const Squares squares = squares_of(q, scaling);
      for (std::size_t i = 1; i < borders.size(); ++i)
        if (borders[i] > borders[i - 1])
          squares.at_row(borders[i - 1], "quantize_by"), squares.at_row(borders[i], "quantize_by");
      given.borders = on(stream).upload(borders);
      const std::int64_t panel = squares.at_row(row, "quantize_by");
      quantize_squares(on(stream), x, squares, panel, squares.at_row(row + rows, "quantize_by") - panel, given);
    } else {
      const ScaledRows q_rows = scaled_rows(q, scaling);
      given.borders = on(stream).upload(borders);
      given.kind = q_rows.kind;
      launch_quantize_rows(on(stream), x, q_rows, row, rows, ScalesOfRuns{given});
    }
  });
  if (stats) count_quantized(on(stream), x, q, runs.front(), runs.back() - runs.front(), *stats);
}

}  // namespace fourmi::cuda
