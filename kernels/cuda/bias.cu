// The bias of a linear map. Bound by memory: bias_add reads and writes M N elements (280 us for 32768 rows of 9216 in
// bf16 at 4.3 TB/s), bias_backward reads them (140 us). Lanes are columns, sixteen bytes each, warps are rows.
//
// The gradient's order: M rows are cut into equal runs whose number depends on M and N alone; a warp w of eight adds
// rows w, w + 8 ... of its run to zeros, ascending; then warps ascending, runs w, w + 8 ... ascending, these eight sums
// ascending, and all that to db.
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/operations.h"
#include "kernels/ops/bias.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256, num_warps = threads / warp_size, rows_at_once = 4;

/// The first of n columns of this lane; maybe behind the row's end.
template <int n>
__device__ std::int64_t column_of_lane() {
  return (std::int64_t{blockIdx.x} * warp_size + threadIdx.x % warp_size) * n;
}

/// x += b in `num` rows, all of them loaded first; `x` is at the first of them.
template <int num, int n, class X>
__device__ void add_to_rows(X* x, std::int64_t stride, const Accumulator<X> (&b)[n]) {
  Vector<X, n> v[num];
#pragma unroll
  for (int u = 0; u < num; ++u) v[u] = load<n>(x + u * stride);
#pragma unroll
  for (int u = 0; u < num; ++u) {
#pragma unroll
    for (int k = 0; k < n; ++k) v[u].value[k] = narrow<X>(widen<Accumulator<X>>(v[u].value[k]) + b[k]);
    store<n>(x + u * stride, v[u]);
  }
}

template <int n, class X>
__global__ void __launch_bounds__(threads, 4)
    add(const Accumulator<X>* __restrict__ bias, X* __restrict__ x, std::int64_t rows, std::int64_t size) {
  const std::int64_t column = column_of_lane<n>(), step = std::int64_t{gridDim.y} * num_warps;
  if (column >= size) return;
  Accumulator<X> b[n];
#pragma unroll
  for (int k = 0; k < n; ++k) b[k] = bias[column + k];
  std::int64_t row = std::int64_t{blockIdx.y} * num_warps + threadIdx.x / warp_size;
#pragma unroll 1
  for (; row + (rows_at_once - 1) * step < rows; row += rows_at_once * step)
    add_to_rows<rows_at_once>(x + row * size + column, step * size, b);
#pragma unroll 1
  for (; row < rows; row += step) add_to_rows<1>(x + row * size + column, 0, b);
}

/// sum += `num` rows, ascending, all of them loaded first.
template <int num, int n, class X>
__device__ void sum_of_rows(const X* dy, std::int64_t stride, Accumulator<X> (&sum)[n]) {
  Vector<X, n> v[num];
#pragma unroll
  for (int u = 0; u < num; ++u) v[u] = load<n>(dy + u * stride);
#pragma unroll
  for (int u = 0; u < num; ++u)
#pragma unroll
    for (int k = 0; k < n; ++k) sum[k] += widen<Accumulator<X>>(v[u].value[k]);
}

/// sums[run] = the run's sum, of gridDim.y runs of so many rows.
template <int n, class X>
__global__ void __launch_bounds__(threads, 4) sum_runs(const X* __restrict__ dy, Accumulator<X>* __restrict__ sums,
                                                       std::int64_t rows, std::int64_t size, std::int64_t rows_a_run) {
  using T = Accumulator<X>;
  constexpr int width = warp_size * n;
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  const std::int64_t column = column_of_lane<n>(), first = blockIdx.y * rows_a_run;
  const std::int64_t end = first + rows_a_run < rows ? first + rows_a_run : rows;
  T sum[n] = {};
  if (column < size) {
    std::int64_t row = first + warp;
#pragma unroll 1
    for (; row + (rows_at_once - 1) * num_warps < end; row += rows_at_once * num_warps)
      sum_of_rows<rows_at_once>(dy + row * size + column, num_warps * size, sum);
#pragma unroll 1
    for (; row < end; row += num_warps) sum_of_rows<1>(dy + row * size + column, 0, sum);
  }
  __shared__ T of_warp[num_warps][width];
#pragma unroll
  for (int k = 0; k < n; ++k) of_warp[warp][lane * n + k] = sum[k];
  __syncthreads();
  const int c = static_cast<int>(threadIdx.x);
  if (c >= width || std::int64_t{blockIdx.x} * width + c >= size) return;
  T total = of_warp[0][c];
#pragma unroll
  for (int w = 1; w < num_warps; ++w) total += of_warp[w][c];
  sums[blockIdx.y * size + std::int64_t{blockIdx.x} * width + c] = total;
}

/// db += the sum of runs.
template <class T>
__global__ void __launch_bounds__(threads)
    add_runs(const T* __restrict__ sums, T* __restrict__ db, std::int64_t num_runs, std::int64_t size) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  const std::int64_t column = column_of_lane<1>();
  T sum = 0;
  if (column < size)
#pragma unroll 8
    for (std::int64_t run = warp; run < num_runs; run += num_warps) sum += sums[run * size + column];
  __shared__ T of_warp[num_warps][warp_size];
  of_warp[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || column >= size) return;
#pragma unroll
  for (int w = 1; w < num_warps; ++w) sum += of_warp[w][lane];
  db[column] += sum;
}

}  // namespace

void bias_add(const Stream& stream, const Tensor& bias_N, const Tensor& x_MN) {
  const std::int64_t rows = x_MN.dim(0), size = bias_N.num_elements();
  FOURMI_CHECK(x_MN.num_elements() == rows * size, "x {}, bias {}", to_string(x_MN.shape), to_string(bias_N.shape));
  visit_float(x_MN.dtype, "bias_add", [&]<class X>(std::type_identity<X>) {
    constexpr int n = vector_length<X>;
    const auto* const bias = pointer<Accumulator<X>>(bias_N);
    X* const x = pointer<X>(x_MN);
    if (rows == 0 || size == 0) return;
    const bool whole = is_vector_aligned<n>(x, size);
    const std::int64_t across = ceil_div(size, warp_size * (whole ? n : 1));
    const std::int64_t most = std::clamp<std::int64_t>(64 * on(stream).card().num_multiprocessors / across, 1, 65535);
    const dim3 blocks(static_cast<unsigned>(across), num_blocks(rows, num_warps * rows_at_once, most));
    launch(on(stream), whole ? add<n, X> : add<1, X>, blocks, threads, 0, bias, x, rows, size);
  });
}

void bias_backward(const Stream& stream, const Tensor& dy_MN, const Tensor& db_N, const Cuts& cuts) {
  const std::int64_t rows = dy_MN.dim(0), size = db_N.num_elements();
  FOURMI_CHECK(cuts.rows == 0 && db_N.dtype != DType::fx128, "partials of {} rows into {}: mode layout on a GPU",
               cuts.rows, name_of(db_N.dtype));
  if (rows == 0) return;
  FOURMI_CHECK(dy_MN.num_elements() == rows * size, "dy {}, db {}", to_string(dy_MN.shape), to_string(db_N.shape));
  visit_float(dy_MN.dtype, "bias_backward", [&]<class X>(std::type_identity<X>) {
    using T = Accumulator<X>;
    constexpr int n = vector_length<X>;
    constexpr std::int64_t most_blocks = 2048;  // of any card, so that the order does not depend on it
    const X* const dy = pointer<X>(dy_MN);
    T* const db = pointer<T>(db_N);
    if (size == 0) return;
    // The order is that of whole rows of vectors wherever the columns allow it, whatever the address.
    const std::int64_t across = ceil_div(size, warp_size * n);
    const std::int64_t rows_a_run = ceil_div(
        rows, std::min(ceil_div(rows, num_warps * rows_at_once), std::max<std::int64_t>(1, most_blocks / across)));
    const std::int64_t num_runs = ceil_div(rows, rows_a_run);
    T* const sums = on(stream).workspace<T>(num_runs * size);
    const bool whole = is_vector_aligned<n>(dy, size);
    const dim3 blocks(static_cast<unsigned>(whole ? across : ceil_div(size, warp_size)),
                      static_cast<unsigned>(num_runs));
    launch(on(stream), whole ? sum_runs<n, X> : sum_runs<1, X>, blocks, threads, 0, dy, sums, rows, size, rows_a_run);
    launch(on(stream), add_runs<T>, static_cast<unsigned>(ceil_div(size, warp_size)), threads, 0, sums, db, num_runs,
           size);
  });
}

}  // namespace fourmi::cuda
