// Ranges of keys that attention sees: some integers a row, so that the launch is what a call costs.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/operations.h"
#include "kernels/ops/held_rows.h"
#include "kernels/ops/window.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256;

__global__ void __launch_bounds__(threads)
    window_begin(const std::int32_t* __restrict__ key_begin, const std::int32_t* __restrict__ key_end,
                 std::int32_t* __restrict__ begin, std::int64_t window, std::int64_t rows) {
  const std::int64_t step = std::int64_t{gridDim.x} * threads;
#pragma unroll 1
  for (std::int64_t i = std::int64_t{blockIdx.x} * threads + threadIdx.x; i < rows; i += step) {
    const std::int64_t first = key_begin[i], last = key_end[i] - window;
    begin[i] = static_cast<std::int32_t>(first > last ? first : last);
  }
}

/// HeldRows, for the kernel.
struct Runs {
  std::int64_t sequence, begin[2], end[2];

  /// Of the first `row` rows of a sequence, how many are held.
  __host__ __device__ std::int64_t among(std::int64_t row) const {
    std::int64_t count = 0;
    for (int i = 0; i < 2; ++i) {
      const std::int64_t below_end = row < end[i] ? row : end[i];
      count += below_end > begin[i] ? below_end - begin[i] : 0;
    }
    return count;
  }
};

__global__ void __launch_bounds__(threads)
    held_below(const Runs held, std::int64_t each, const std::int32_t* __restrict__ rows,
               std::int32_t* __restrict__ below, std::int64_t num) {
  const std::int64_t step = std::int64_t{gridDim.x} * threads;
#pragma unroll 1
  for (std::int64_t i = std::int64_t{blockIdx.x} * threads + threadIdx.x; i < num; i += step) {
    const std::int64_t row = rows[i];
    below[i] = static_cast<std::int32_t>(row / held.sequence * each + held.among(row % held.sequence));
  }
}

unsigned blocks_for(const CudaStream& stream, std::int64_t num) {
  return num_blocks(num, threads, 16 * stream.card().num_multiprocessors);
}

}  // namespace

void window_key_begin(const Stream& stream, std::int64_t window, const Tensor& key_begin_M, const Tensor& key_end_M,
                      const Tensor& begin_M) {
  const std::int64_t rows = begin_M.num_elements();
  FOURMI_CHECK(window > 0 && key_begin_M.num_elements() == rows && key_end_M.num_elements() == rows,
               "a window of {}, {} and {} of {} rows", window, key_begin_M.num_elements(), key_end_M.num_elements(),
               rows);
  if (rows == 0) return;
  launch(on(stream), window_begin, blocks_for(on(stream), rows), threads, 0, pointer<std::int32_t>(key_begin_M),
         pointer<std::int32_t>(key_end_M), pointer<std::int32_t>(begin_M), window, rows);
}

void count_held_below(const Stream& stream, const HeldRows& held, const Tensor& rows_M, const Tensor& below_M) {
  const std::int64_t num = rows_M.num_elements();
  FOURMI_CHECK(held.sequence > 0 && below_M.num_elements() == num && held.end[0] <= held.begin[1] &&
                   held.end[1] <= held.sequence,
               "runs of {} rows, {} and {} rows", held.sequence, num, below_M.num_elements());
  if (num == 0) return;
  const Runs runs{held.sequence, {held.begin[0], held.begin[1]}, {held.end[0], held.end[1]}};
  launch(on(stream), held_below, blocks_for(on(stream), num), threads, 0, runs, runs.among(held.sequence),
         pointer<std::int32_t>(rows_M), pointer<std::int32_t>(below_M), num);
}

}  // namespace fourmi::cuda
