// The weight gradient of RMSNorm. Bound by memory: 2 D elements a row are read (8192 rows of 7168 in bf16: 55 us at 4.3
// TB/s). Lanes of a warp have neighbouring columns, sixteen bytes each; the warps of a block take turns at the rows of
// a run, each with several rows under way. Runs become partials in workspace, and these are added up (partial_sums.h).
#include "kernels/cuda/launch.h"
#include "kernels/cuda/operations.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/partial_sums.h"
#include "kernels/ops/rms_norm.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int num_warps = 8, rows_at_once = 4;
constexpr std::int64_t least_run = 8 * num_warps;  // rows

/// Rows of dy and x, from their first column of the weight's.
template <class X>
struct Rows {
  const X *dy, *x;
  std::int64_t dy_stride, x_stride, count;
  int size;
};

/// Of a run of rows: partials[run] = sum of dy x rstd. `whole`: sizes and addresses are multiples of a vector.
template <class X, bool whole>
__global__ void __launch_bounds__(num_warps* warp_size)
    sum_runs(const Rows<X> rows, const Accumulator<X>* __restrict__ rstd, Accumulator<X>* __restrict__ partials,
             std::int64_t rows_a_run) {
  using T = Accumulator<X>;
  constexpr int n = vector_length<X>, width = n * warp_size;
  __shared__ T of_warp[num_warps][width];
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const int first = static_cast<int>(blockIdx.x) * width, column = first + lane * n, valid = rows.size - column;
  const std::int64_t begin = blockIdx.y * rows_a_run;
  const std::int64_t end = min(begin + rows_a_run, rows.count);
  const auto load_at = [&](const X* p) {
    if constexpr (!whole) return load_some<n>(p, valid);
    return load_packed<n>(p);
  };
  T sum[n] = {};
  // `count` rows from r on, a warp's apart.
  const auto add_rows = [&]<int count>(std::int64_t r, std::integral_constant<int, count>) {
    Packed<X, n> up[count], in[count];
    T scale[count];
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const std::int64_t row = r + i * num_warps;
      up[i] = load_at(rows.dy + row * rows.dy_stride + column);
      in[i] = load_at(rows.x + row * rows.x_stride + column);
      scale[i] = rstd[row];
    }
#pragma unroll
    for (int i = 0; i < count; ++i)
#pragma unroll
      for (int k = 0; k < n; ++k) sum[k] = fma(up[i].at(k), in[i].at(k) * scale[i], sum[k]);
  };
  if (valid > 0) {
    std::int64_t r = begin + warp;
    for (; r + (rows_at_once - 1) * num_warps < end; r += rows_at_once * num_warps)
      add_rows(r, std::integral_constant<int, rows_at_once>{});
    for (; r < end; r += num_warps) add_rows(r, std::integral_constant<int, 1>{});
  }
#pragma unroll
  for (int k = 0; k < n; ++k) of_warp[warp][lane * n + k] = sum[k];
  __syncthreads();
  const int mine = warp * warp_size + lane;
  if (mine >= width || first + mine >= rows.size) return;
  T total = of_warp[0][mine];
#pragma unroll
  for (int w = 1; w < num_warps; ++w) total += of_warp[w][mine];
  partials[std::int64_t{blockIdx.y} * rows.size + first + mine] = total;
}

}  // namespace

void rms_norm_backward_weight(const Stream& stream, const RmsNorm& norm, const Tensor& dy_MB, const Tensor& x_MA,
                              const Tensor& rstd_M, const Tensor& dw_D, const Cuts& cuts) {
  const Span span(stream.timeline(), Work::norm, "rms_norm_backward_weight");
  const std::int64_t rows = x_MA.dim(0), size = dw_D.num_elements();
  FOURMI_CHECK(cuts.rows == 0 && cuts.row_token == nullptr && dw_D.dtype != DType::fx128, "mode layout on a GPU");
  if (rows == 0 || size == 0) return;
  const std::int64_t x_stride = x_MA.num_elements() / rows, dy_stride = dy_MB.num_elements() / rows;
  FOURMI_CHECK(dy_MB.dim(0) == rows && rstd_M.num_elements() == rows && x_MA.dtype == dy_MB.dtype &&
                   norm.x_column + size <= x_stride && norm.y_column + size <= dy_stride,
               "x {} from column {}, dy {} from column {}, {} columns", to_string(x_MA.shape), norm.x_column,
               to_string(dy_MB.shape), norm.y_column, size);
  visit_float(x_MA.dtype, "rms_norm", [&]<class X>(std::type_identity<X>) {
    using T = Accumulator<X>;
    constexpr int n = vector_length<X>;
    const Rows<X> in{pointer<X>(dy_MB) + norm.y_column,
                     pointer<X>(x_MA) + norm.x_column,
                     dy_stride,
                     x_stride,
                     rows,
                     static_cast<int>(size)};
    const std::int64_t across = ceil_div(size, n * warp_size);
    const std::int64_t most_runs = std::clamp<std::int64_t>(partial_blocks / across, 1, ceil_div(rows, least_run));
    const std::int64_t rows_a_run = ceil_div(rows, most_runs), num_runs = ceil_div(rows, rows_a_run);
    const CudaStream& s = on(stream);
    T* const partials = s.workspace<T>(num_runs * size);
    const bool whole = size % n == 0 && is_vector_aligned<n>(in.dy, dy_stride) && is_vector_aligned<n>(in.x, x_stride);
    launch(s, whole ? sum_runs<X, true> : sum_runs<X, false>,
           dim3(static_cast<unsigned>(across), static_cast<unsigned>(num_runs)), dim3(warp_size, num_warps), 0, in,
           pointer<T>(rstd_M), partials, rows_a_run);
    add_up<T>(s, {partials, static_cast<int>(num_runs), pointer<T>(dw_D)}, static_cast<int>(size));
  });
}

}  // namespace fourmi::cuda
