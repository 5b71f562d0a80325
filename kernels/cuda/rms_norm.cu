// RMSNorm and its gradient for the input. Bound by memory: forward reads and writes D elements a row (into e4m3: writes
// D bytes), backward reads 2 D, with a residual 3 D, and writes D. (8192 rows of 7168 in bf16 at 4.3 TB/s: 55 us, 41 us
// and 109 us.) One pass: a row's elements stay in registers between
// the sum and what needs it. A thread has units of eight neighbouring columns, so that sixteen neighbouring lanes hold
// a group of the quantised form. Rows longer than a block's registers are read twice.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/operations.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/scaled_units.h"
#include "kernels/ops/rms_norm.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int unit = 8, most_threads = 512, rows_of_warps = 8;
template <class X>
using Unit = Packed<X, unit>;
/// Units that a thread holds of each operand: 64 bytes.
template <class X>
constexpr int num_held = 64 / (unit * static_cast<int>(sizeof(X)));

/// The D normalised columns of a row [M, A].
template <class X>
struct Columns {
  X* data = nullptr;
  std::int64_t stride = 0;
  __device__ X* row(std::int64_t r) const { return data + r * stride; }
};

/// Values from the `valid`-th on become zeros (load) or are not touched (store). `whole`: rows have whole units alone,
/// and these are aligned.
template <bool whole, class X>
__device__ Unit<X> load_unit(const X* p, int valid) {
  if constexpr (whole) {
    Unit<X> u{};
    if (valid > 0) u = load_packed<unit>(p);
    return u;
  } else {
    return load_some<unit>(p, valid);
  }
}
template <bool whole, class X>
__device__ void store_unit(X* p, int valid, const Accumulator<X> (&value)[unit]) {
  if constexpr (whole) {
    if (valid > 0) store_packed(p, pack<X>(value));
  } else {
    store_some(p, valid, pack<X>(value));
  }
}

/// The first column of this thread's i-th unit, of those that the block has from unit `base` on.
__device__ int column_of(int base, int i) {
  return (base + i * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * unit;
}
/// Of whole units the addresses have one base, since they are not to cost more than what is done with the values.
template <Rows are, class X, int n>
__device__ void load_units(const X* row, int base, int size, Unit<X> (&u)[n]) {
  const int first = column_of(base, 0), step = unit * static_cast<int>(blockDim.x);
  const X* const from = row + first;
#pragma unroll
  for (int i = 0; i < n; ++i) {
    const int column = are == Rows::any ? column_of(base, i) : first + i * step;
    if constexpr (are == Rows::full)
      u[i] = load_packed<unit>(from + i * step);
    else if constexpr (are == Rows::whole)
      u[i] = load_unit<true>(from + i * step, size - column);
    else
      u[i] = load_unit<false>(row + column, size - column);
  }
}
/// A unit of weights; behind a row's end, where x has zeros, the row's last one.
template <Rows are, class T>
__device__ Unit<T> load_weights(const T* weight, int column, int size) {
  if constexpr (are == Rows::full) return load_packed<unit>(weight + column);
  if constexpr (are == Rows::whole) return load_packed<unit>(weight + min(column, size - unit));
  return load_some<unit>(weight + column, size - column);
}

/// A row has blockDim.x threads and a block blockDim.y rows: more than one only if a row has one warp.
__device__ std::int64_t row_of_thread() {
  return std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
}

/// y.data is null where only q is wanted; without `scaled` there is no q. Behind a row's end values are 0 scale 0,
/// which is not zero only if nothing in the row is finite, or the last unit's weights are not.
template <class X, Rows are, bool scaled>
__global__ void __launch_bounds__(most_threads, are == Rows::full ? 2 : 1)
    forward(const Columns<const X> x, const Accumulator<X>* __restrict__ weight, const Columns<X> y, const ScaledRows q,
            Accumulator<X>* __restrict__ rstd, std::int64_t rows, int size, Accumulator<X> epsilon) {
  using T = Accumulator<X>;
  constexpr int n = num_held<X>;
  __shared__ T places[warp_size];
  const std::int64_t row = row_of_thread();
  if (row >= rows) return;
  const X* const from = x.row(row);
  const int step = static_cast<int>(blockDim.x), round = n * step;
  const int num_units = are == Rows::full ? round : (size + unit - 1) / unit;
  const bool once = are == Rows::full || num_units <= round;
  Unit<X> in[n];
  T sum{0};
  for (int base = 0; base < num_units && (base == 0 || !once); base += round) {
    load_units<are>(from, base, size, in);
#pragma unroll
    for (int i = 0; i < n; ++i) {
      T part{0};
#pragma unroll
      for (int k = 0; k < unit; ++k) part = fma(in[i].at(k), in[i].at(k), part);
      sum += part;
    }
  }
  const T scale = T{1} / square_root(block_sum(sum, places) / static_cast<T>(size) + epsilon);
  if (threadIdx.x == 0) rstd[row] = scale;
  for (int base = 0; base < num_units && (base == 0 || !once); base += round) {
    if (!once) load_units<are>(from, base, size, in);
    const int column = column_of(base, 0);
    T value[n][unit];
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const Unit<T> w = load_weights<are>(weight, column + i * step * unit, size);
#pragma unroll
      for (int k = 0; k < unit; ++k) value[i][k] = in[i].at(k) * scale * w.at(k);
    }
    if (!scaled || y.data != nullptr) {
      X* const to = y.row(row) + column;
#pragma unroll
      for (int i = 0; i < n; ++i)
        store_unit<are != Rows::any>(to + i * step * unit, size - column - i * step * unit, value[i]);
    }
    if constexpr (scaled) {
      int columns[n];
#pragma unroll
      for (int i = 0; i < n; ++i) columns[i] = column + i * step * unit;
      quantize_units<are>(q, row, columns, value);
    }
  }
}

/// residual.data is null where there is none; it may be dx's.
template <class X, Rows are>
__global__ void __launch_bounds__(most_threads)
    backward_input(const Columns<const X> dy, const Columns<const X> x, const Accumulator<X>* __restrict__ weight,
                   const Accumulator<X>* __restrict__ rstd, const Columns<const X> residual, const Columns<X> dx,
                   std::int64_t rows, int size) {
  using T = Accumulator<X>;
  constexpr int n = num_held<X>;
  __shared__ T places[warp_size];
  const std::int64_t row = row_of_thread();
  if (row >= rows) return;
  const int num_units = (size + unit - 1) / unit, round = n * static_cast<int>(blockDim.x);
  const bool adds = residual.data != nullptr;
  const T scale = rstd[row];
  Unit<X> up[n], in[n], add[n];
  const auto load_round = [&](int base) {
    load_units<are>(dy.row(row), base, size, up);
    load_units<are>(x.row(row), base, size, in);
    if (adds) load_units<are>(residual.row(row), base, size, add);
  };
  T sum{0};
  for (int base = 0; base < num_units; base += round) {
    load_round(base);
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const int column = column_of(base, i);
      const Unit<T> w = load_unit<are == Rows::whole>(weight + column, size - column);
      T part{0};
#pragma unroll
      for (int k = 0; k < unit; ++k) part = fma(up[i].at(k) * w.at(k), in[i].at(k), part);
      sum += part;
    }
  }
  const T minus_k = -(block_sum(sum, places) * scale * scale / static_cast<T>(size));
  for (int base = 0; base < num_units; base += round) {
    if (num_units > round) load_round(base);
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const int column = column_of(base, i), valid = size - column;
      if (valid <= 0) break;
      const Unit<T> w = load_unit<are == Rows::whole>(weight + column, valid);
      T value[unit];
#pragma unroll
      for (int k = 0; k < unit; ++k) {
        value[k] = scale * fma(minus_k, in[i].at(k), up[i].at(k) * w.at(k));
        if (adds) value[k] = add[i].at(k) + value[k];
      }
      store_unit<are == Rows::whole>(dx.row(row) + column, valid, value);
    }
  }
}

template <class... P>
struct Kernels {
  void (*any)(P...), (*whole)(P...), (*full)(P...);
};
/// Gives the kernel for such rows to the stream.
template <class X, class... P>
void launch_rows(const CudaStream& stream, const Kernels<P...>& kernels, bool whole, std::int64_t rows,
                 std::int64_t size, auto... arguments) {
  const std::int64_t warps = ceil_div(ceil_div(size, unit), num_held<X> * warp_size);
  const auto threads = static_cast<unsigned>(std::clamp<std::int64_t>(warps * warp_size, warp_size, most_threads));
  const unsigned rows_a_block = threads == warp_size ? rows_of_warps : 1;
  const bool full = size == std::int64_t{threads} * num_held<X> * unit;
  launch(stream,
         !whole ? kernels.any
         : full ? kernels.full
                : kernels.whole,
         static_cast<unsigned>(ceil_div(rows, rows_a_block)), dim3(threads, rows_a_block), 0, arguments...);
}

template <class X>
Columns<X> columns_of(const Tensor& t, std::int64_t first, std::int64_t size, const char* what) {
  const std::int64_t stride = t.num_elements() / t.dim(0);
  FOURMI_CHECK(0 <= first && first + size <= stride, "{} {}: columns [{}, {})", what, to_string(t.shape), first,
               first + size);
  return {pointer<std::remove_const_t<X>>(t) + first, stride};
}
/// Do rows of `size` columns have whole units alone? Absent columns (null, stride 0) do no harm.
template <class... X>
bool are_whole(std::int64_t size, const Columns<X>&... columns) {
  return size % unit == 0 && (is_vector_aligned<unit>(columns.data, columns.stride) && ...);
}

}  // namespace

void rms_norm_forward(const Stream& stream, const RmsNorm& norm, const Tensor& x_MA, const Tensor& weight_D,
                      const Tensor& y_MB, const Tensor& rstd_M) {
  const Span span(stream.timeline(), Work::norm, "rms_norm_forward");
  const std::int64_t rows = x_MA.dim(0), size = weight_D.num_elements();
  FOURMI_CHECK(y_MB.dim(0) == rows && rstd_M.num_elements() == rows && x_MA.dtype == y_MB.dtype, "x {}, y {}, rstd {}",
               to_string(x_MA.shape), to_string(y_MB.shape), to_string(rstd_M.shape));
  if (rows == 0) return;
  visit_float(x_MA.dtype, "rms_norm", [&]<class X>(std::type_identity<X>) {
    using T = Accumulator<X>;
    const auto x = columns_of<const X>(x_MA, norm.x_column, size, "x");
    const auto y = columns_of<X>(y_MB, norm.y_column, size, "y");
    const Columns<const T> weight{pointer<T>(weight_D)};
    launch_rows<X>(on(stream),
                   Kernels{forward<X, Rows::any, false>, forward<X, Rows::whole, false>, forward<X, Rows::full, false>},
                   are_whole(size, x, y, weight), rows, size, x, weight.data, y, ScaledRows{}, pointer<T>(rstd_M), rows,
                   static_cast<int>(size), static_cast<T>(norm.epsilon));
  });
}

void rms_norm_forward(const Stream& stream, const RmsNorm& norm, const Tensor& x_MA, const Tensor& weight_D,
                      const Tensor& y_MB, const Tensor& q_MD, const Scaling& scaling, const Tensor& rstd_M,
                      QuantizeStatistics* stats) {
  const Span span(stream.timeline(), Work::norm, "rms_norm_forward");
  FOURMI_CHECK(!stats, "statistics of a producer on a device");
  const std::int64_t rows = x_MA.dim(0), size = weight_D.num_elements();
  FOURMI_CHECK(q_MD.shape == (Shape{rows, size}) && rstd_M.num_elements() == rows && (!y_MB || y_MB.dim(0) == rows),
               "x {}, y {}, q {}, rstd {}", to_string(x_MA.shape), to_string(y_MB.shape), to_string(q_MD.shape),
               to_string(rstd_M.shape));
  FOURMI_CHECK(x_MA.dtype == DType::f32 || x_MA.dtype == DType::bf16, "rms_norm of {}", name_of(x_MA.dtype));
  const ScaledRows q = scaled_rows(q_MD, scaling);
  if (rows == 0) return;
  const auto run = [&]<class X>(std::type_identity<X>) {
    const auto x = columns_of<const X>(x_MA, norm.x_column, size, "x");
    const auto y = y_MB ? columns_of<X>(y_MB, norm.y_column, size, "y") : Columns<X>{};
    const Columns<const float> weight{pointer<float>(weight_D)};
    launch_rows<X>(on(stream),
                   Kernels{forward<X, Rows::any, true>, forward<X, Rows::whole, true>, forward<X, Rows::full, true>},
                   are_whole(size, x, y, weight), rows, size, x, weight.data, y, q, pointer<float>(rstd_M), rows,
                   static_cast<int>(size), static_cast<float>(norm.epsilon));
  };
  x_MA.dtype == DType::f32 ? run(std::type_identity<float>{}) : run(std::type_identity<bfloat16>{});
}

void rms_norm_backward_input(const Stream& stream, const RmsNorm& norm, const Tensor& dy_MB, const Tensor& x_MA,
                             const Tensor& weight_D, const Tensor& rstd_M, const Tensor& dx_MA,
                             const Tensor& residual_MA) {
  const Span span(stream.timeline(), Work::norm, "rms_norm_backward_input");
  const std::int64_t rows = x_MA.dim(0), size = weight_D.num_elements();
  FOURMI_CHECK(dy_MB.dim(0) == rows && rstd_M.num_elements() == rows && dx_MA.dim(0) == rows &&
                   (!residual_MA || residual_MA.num_elements() == dx_MA.num_elements()),
               "x {}, dy {}, dx {}, residual {}", to_string(x_MA.shape), to_string(dy_MB.shape), to_string(dx_MA.shape),
               to_string(residual_MA.shape));
  if (rows == 0) return;
  visit_float(x_MA.dtype, "rms_norm", [&]<class X>(std::type_identity<X>) {
    using T = Accumulator<X>;
    const auto dy = columns_of<const X>(dy_MB, norm.y_column, size, "dy");
    const auto x = columns_of<const X>(x_MA, norm.x_column, size, "x");
    const auto dx = columns_of<X>(dx_MA, norm.x_column, size, "dx");
    const auto residual =
        residual_MA ? columns_of<const X>(residual_MA, norm.x_column, size, "residual") : Columns<const X>{};
    const Columns<const T> weight{pointer<T>(weight_D)};
    launch_rows<X>(
        on(stream),
        Kernels{backward_input<X, Rows::any>, backward_input<X, Rows::whole>, backward_input<X, Rows::whole>},
        are_whole(size, dy, x, dx, residual, weight), rows, size, dy, x, weight.data, pointer<T>(rstd_M), residual, dx,
        rows, static_cast<int>(size));
  });
}

}  // namespace fourmi::cuda
