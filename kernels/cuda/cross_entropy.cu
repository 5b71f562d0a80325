// Softmax cross-entropy over rows of logits. Bound by memory: the maximum and the sum read V values a row each, the
// gradient reads V and writes V; an exponential costs about 16 instructions, which at 4 bytes a value is two thirds of
// what the card can issue. A block a row (and leaf) for maximum and sum; at 132 rows and more all multiprocessors work.
#include "kernels/cuda/operations.h"
#include "kernels/cuda/row_threads.h"
#include "kernels/numerics/exp_of_negative.h"
#include "kernels/numerics/rounding.h"
#include "kernels/ops/cross_entropy.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 512, short_threads = 128;  // of a block a row
constexpr int gradient_threads = 256;
constexpr int ahead = 4;  // vectors in flight

/// Are there vectors at p, a row's begin?
template <class X>
__device__ bool begins_whole(const X* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}

/// f(i, value) for this thread's share of x[0, size): runs of vector_length values, blockDim.x runs apart; i counts
/// inside a run. Which values and in which order does not depend on x's address.
template <bool whole, class T, class F>
__device__ void visit_share(const T* x, int size, const F& f) {
  constexpr int n = vector_length<T>, width = whole ? n : 1;
  const int step = static_cast<int>(blockDim.x), runs = size / n;
  const auto visit = [&]<bool all>(int first, std::bool_constant<all>) {
    T v[ahead][n];
#pragma unroll
    for (int j = 0; j < ahead; ++j)
      if (all || first + j * step < runs)
#pragma unroll
        for (int i = 0; i < n; i += width) {
          const Vector<T, width> from = load<width>(x + (first + j * step) * n + i);
#pragma unroll
          for (int k = 0; k < width; ++k) v[j][i + k] = from.value[k];
        }
#pragma unroll
    for (int j = 0; j < ahead; ++j)
      if (all || first + j * step < runs)
#pragma unroll
        for (int i = 0; i < n; ++i) f(i, v[j][i]);
  };
  int run = static_cast<int>(threadIdx.x);
  const bool has_rest = (runs - run) % step == 0;  // what is less than a run is as if it were one
  for (; run + (ahead - 1) * step < runs; run += ahead * step) visit(run, std::true_type{});
  if (run < runs) visit(run, std::false_type{});
#pragma unroll
  for (int i = 0; i < n; ++i)
    if (has_rest && runs * n + i < size) f(i, x[runs * n + i]);
}

template <class T>
struct Rows {
  const T* logits;
  std::int64_t num_rows, num_columns, first;
  const std::int32_t* targets;

  /// The target's column among those held here, negative if it is elsewhere or absent.
  __device__ std::int64_t column(std::int64_t row) const {
    const std::int64_t c = targets[row] - first;
    return targets[row] >= 0 && c < num_columns ? c : -1;
  }
};

/// NaN is passed over (it shows in the sum), and a zero is always the positive one.
template <class T>
__global__ void __launch_bounds__(threads, 2) max_of_rows(const Rows<T> r, T* __restrict__ max) {
  __shared__ T warps[threads / warp_size];
  constexpr int n = vector_length<T>;
  const int lane = static_cast<int>(threadIdx.x) % warp_size, num_warps = static_cast<int>(blockDim.x) / warp_size;
  const T* const x = r.logits + blockIdx.x * r.num_columns;
  T most[n];
#pragma unroll
  for (int i = 0; i < n; ++i) most[i] = -std::numeric_limits<T>::infinity();
  const auto take = [&](int i, T value) { most[i] = value > most[i] ? value : most[i]; };
  if (begins_whole(x))
    visit_share<true>(x, static_cast<int>(r.num_columns), take);
  else
    visit_share<false>(x, static_cast<int>(r.num_columns), take);
#pragma unroll
  for (int i = 1; i < n; ++i) most[0] = most[i] > most[0] ? most[i] : most[0];
#pragma unroll
  for (int step = warp_size / 2; step > 0; step /= 2) {
    const T other = __shfl_xor_sync(all_lanes, most[0], step);
    most[0] = other > most[0] ? other : most[0];
  }
  if (lane == 0) warps[threadIdx.x / warp_size] = most[0];
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < num_warps; ++w) most[0] = warps[w] > most[0] ? warps[w] : most[0];
  max[blockIdx.x] = most[0] + T{0};
}

/// sum[leaf][row]; blocks are rows, of each its leaves.
template <class T>
__global__ void __launch_bounds__(threads, sizeof(T) == 4 ? 2 : 1)
    sum_of_rows(const Rows<T> r, const T* __restrict__ max, int leaves, T* __restrict__ sum,
                T* __restrict__ target_logit) {
  __shared__ T shared[warp_size];
  constexpr int n = vector_length<T>;
  const std::int64_t row = blockIdx.x / leaves, leaf = blockIdx.x % leaves, size = r.num_columns / leaves;
  const T* const x = r.logits + row * r.num_columns + leaf * size;
  const T most = max[row];
  T part[n];
#pragma unroll
  for (int i = 0; i < n; ++i) part[i] = 0;
  const auto take = [&](int i, T value) { part[i] += exp_of_negative(value - most); };
  if (begins_whole(x))
    visit_share<true>(x, static_cast<int>(size), take);
  else
    visit_share<false>(x, static_cast<int>(size), take);
#pragma unroll
  for (int apart = 1; apart < n; apart *= 2)
#pragma unroll
    for (int i = 0; i < n; i += 2 * apart) part[i] += part[i + apart];
  const T total = block_sum(part[0], shared);
  if (threadIdx.x != 0) return;
  sum[leaf * r.num_rows + row] = total;
  if (leaf != 0) return;
  const std::int64_t column = r.column(row);
  target_logit[row] = column < 0 ? T{0} : r.logits[row * r.num_columns + column];
}

/// Columns from `kept` on; a block a row.
template <class T>
__global__ void __launch_bounds__(gradient_threads)
    mask_columns(T* logits, std::int64_t num_columns, std::int64_t kept) {
  T* const row = logits + blockIdx.x * num_columns;
  for (std::int64_t i = kept + threadIdx.x; i < num_columns; i += gradient_threads)
    row[i] = -std::numeric_limits<T>::infinity();
}

/// Of each row: what the partials came to.
template <class T>
struct Finish {
  const T *max, *sum, *target_logit;
  T* loss;
  T weight;
};

template <class T>
__device__ void write_loss(const Rows<T>& r, const Finish<T>& f, std::int64_t row) {
  f.loss[row] = r.targets[row] < 0 ? T{0} : log(f.sum[row]) + (f.max[row] - f.target_logit[row]);
}

template <class T>
__global__ void __launch_bounds__(gradient_threads) losses(const Rows<T> r, const Finish<T> f) {
  const std::int64_t row = std::int64_t{blockIdx.x} * gradient_threads + threadIdx.x;
  if (row < r.num_rows) write_loss(r, f, row);
}

/// Values of a thread that lie together: whole vectors of both types.
template <class T, class D>
inline constexpr int gradient_run = vector_length<T> > vector_length<D> ? vector_length<T> : vector_length<D>;
template <class T, class D>
inline constexpr int gradient_runs = 128 / static_cast<int>(sizeof(T)) / gradient_run<T, D>;  // of a thread

/// d may be the memory of the logits: a thread has read what it writes. The first block of a row writes its loss.
template <class T, class D>
__global__ void __launch_bounds__(gradient_threads)
    gradients(const Rows<T> r, const Finish<T> f, D* d, int blocks_a_row) {
  constexpr int n = gradient_run<T, D>, runs = gradient_runs<T, D>;
  const std::int64_t row = blockIdx.x / blocks_a_row;
  const int part = static_cast<int>(blockIdx.x % blocks_a_row);
  const T* const x = r.logits + row * r.num_columns;
  D* const to = d + row * r.num_columns;
  const int num_columns = static_cast<int>(r.num_columns);
  const bool whole = begins_whole(x) && begins_whole(to);
  const auto column_of = [&](int run) {
    return ((part * runs + run) * gradient_threads + static_cast<int>(threadIdx.x)) * n;
  };
  T v[runs][n];  // asked for before it is known whether the row has a target: nearly all have one
#pragma unroll
  for (int j = 0; j < runs; ++j)
    if (whole && column_of(j) + n <= num_columns) load_values(x + column_of(j), v[j]);
  if (part == 0 && threadIdx.x == 0) write_loss(r, f, row);
  const int target = static_cast<int>(r.column(row));
  const bool has_target = r.targets[row] >= 0;
  const T max = f.max[row], inverse = T{1} / f.sum[row], weight = has_target ? f.weight : T{0};
  const auto probability = [&](T logit) { return exp_of_negative(logit - max) * inverse; };
#pragma unroll
  for (int j = 0; j < runs; ++j) {
    const int column = column_of(j);
    if (!whole || column + n > num_columns) continue;
#pragma unroll
    for (int i = 0; i < n; ++i) v[j][i] = has_target ? probability(v[j][i]) : T{0};
    if (target >= column && target < column + n)
#pragma unroll
      for (int i = 0; i < n; ++i) v[j][i] -= target == column + i ? T{1} : T{0};
#pragma unroll
    for (int i = 0; i < n; ++i) v[j][i] *= weight;
    store_values(to + column, v[j]);
  }
#pragma unroll 1
  for (int j = 0; j < runs; ++j) {
    const int column = column_of(j);
    if (whole && column + n <= num_columns) continue;
#pragma unroll 1
    for (int i = column; i < column + n && i < num_columns; ++i) {
      const T p = has_target ? probability(x[i]) : T{0};
      to[i] = round_to<D>(weight * (i == target ? p - T{1} : p));
    }
  }
}

int threads_of(std::int64_t size) {
  return size < 16 * short_threads ? short_threads : threads;
}

unsigned blocks_of(std::int64_t rows, std::int64_t each) {
  FOURMI_CHECK(rows * each <= std::numeric_limits<std::int32_t>::max(), "{} rows of {} blocks", rows, each);
  return static_cast<unsigned>(rows * each);
}

void check_rows(const Tensor& logits_CV, const Tensor& per_row) {
  FOURMI_CHECK(
      per_row.num_elements() == logits_CV.dim(0) && logits_CV.dim(1) <= std::numeric_limits<std::int32_t>::max() / 2,
      "logits {}, a value for each of {} rows", to_string(logits_CV.shape), per_row.num_elements());
}

}  // namespace

void softmax_max(const Stream& stream, const Tensor& logits_CV, const Tensor& max_C) {
  const Span span(stream.timeline(), Work::head, "softmax_max");
  check_rows(logits_CV, max_C);
  const std::int64_t rows = logits_CV.dim(0), columns = logits_CV.dim(1);
  if (rows == 0) return;
  visit_accumulator(logits_CV.dtype, "softmax_max", [&]<class T>(std::type_identity<T>) {
    launch(on(stream), max_of_rows<T>, blocks_of(rows, 1), threads_of(columns), 0,
           Rows<T>{pointer<T>(logits_CV), rows, columns, 0, nullptr}, pointer<T>(max_C));
  });
}

void mask_padding(const Stream& stream, std::int64_t first, std::int64_t vocabulary, const Tensor& logits_CV) {
  const Span span(stream.timeline(), Work::head, "mask_padding");
  const std::int64_t rows = logits_CV.dim(0), columns = logits_CV.dim(1);
  const std::int64_t kept = std::clamp(vocabulary - first, std::int64_t{0}, columns);
  if (kept == columns || rows == 0) return;
  visit_accumulator(logits_CV.dtype, "mask_padding", [&]<class T>(std::type_identity<T>) {
    launch(on(stream), mask_columns<T>, blocks_of(rows, 1), gradient_threads, 0, pointer<T>(logits_CV), columns, kept);
  });
}

void softmax_sum(const Stream& stream, const Tensor& logits_CV, const Tensor& max_C, const Tensor& targets_C,
                 std::int64_t first, const Tensor& sum_LC, const Tensor& target_logit_C, std::int64_t leaves) {
  const Span span(stream.timeline(), Work::head, "softmax_sum");
  for (const Tensor& per_row : {max_C, targets_C, target_logit_C}) check_rows(logits_CV, per_row);
  const std::int64_t rows = logits_CV.dim(0), columns = logits_CV.dim(1);
  FOURMI_CHECK(leaves >= 1 && columns % leaves == 0 && sum_LC.num_elements() == leaves * rows,
               "logits {} in {} leaves, sums {}", to_string(logits_CV.shape), leaves, to_string(sum_LC.shape));
  if (rows == 0) return;
  visit_accumulator(logits_CV.dtype, "softmax_sum", [&]<class T>(std::type_identity<T>) {
    launch(on(stream), sum_of_rows<T>, blocks_of(rows, leaves), threads_of(columns / leaves), 0,
           Rows<T>{pointer<T>(logits_CV), rows, columns, first, pointer<std::int32_t>(targets_C)}, pointer<T>(max_C),
           static_cast<int>(leaves), pointer<T>(sum_LC), pointer<T>(target_logit_C));
  });
}

void cross_entropy_finish(const Stream& stream, double weight, const Tensor& logits_CV, const Tensor& max_C,
                          const Tensor& sum_C, const Tensor& target_logit_C, const Tensor& targets_C,
                          std::int64_t first, const Tensor& loss_C, const Tensor& dlogits_CV) {
  const Span span(stream.timeline(), Work::head, "cross_entropy_finish");
  for (const Tensor& per_row : {max_C, sum_C, target_logit_C, targets_C, loss_C}) check_rows(logits_CV, per_row);
  FOURMI_CHECK(!dlogits_CV || dlogits_CV.num_elements() == logits_CV.num_elements(), "logits {}, dlogits {}",
               to_string(logits_CV.shape), to_string(dlogits_CV.shape));
  const std::int64_t rows = logits_CV.dim(0), columns = logits_CV.dim(1);
  if (rows == 0) return;
  visit_accumulator(logits_CV.dtype, "cross_entropy", [&]<class T>(std::type_identity<T>) {
    const Rows<T> r{pointer<T>(logits_CV), rows, columns, first, pointer<std::int32_t>(targets_C)};
    const Finish<T> f{pointer<T>(max_C), pointer<T>(sum_C), pointer<T>(target_logit_C), pointer<T>(loss_C),
                      static_cast<T>(weight)};
    if (!dlogits_CV || columns == 0) {
      launch(on(stream), losses<T>, blocks_of(ceil_div(rows, gradient_threads), 1), gradient_threads, 0, r, f);
      return;
    }
    visit_float(dlogits_CV.dtype, "cross_entropy", [&]<class D>(std::type_identity<D>) {
      const std::int64_t each =
          ceil_div(columns, std::int64_t{gradient_threads} * gradient_run<T, D> * gradient_runs<T, D>);
      launch(on(stream), gradients<T, D>, blocks_of(rows, each), gradient_threads, 0, r, f, pointer<D>(dlogits_CV),
             static_cast<int>(each));
    });
  });
}

}  // namespace fourmi::cuda
