#include "kernels/ops/cross_entropy.h"

#include <algorithm>
#include <limits>

#include "kernels/numerics/lanes.h"
#include "kernels/numerics/math.h"
#include "kernels/numerics/rounding.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

constexpr std::int64_t chunk = 512;  // columns of a gradient that are formed at once, before they replace the logits

/// The largest of a row; NaN is passed over (it shows in the sum), and a zero is always the positive one.
template <class T>
T max_row(const T* x, std::int64_t n) {
  constexpr T least = -std::numeric_limits<T>::infinity();
  T lane[num_lanes];
  for (int j = 0; j < num_lanes; ++j) lane[j] = least;
  std::int64_t i = 0;
  for (; i + num_lanes <= n; i += num_lanes)
    for (int j = 0; j < num_lanes; ++j) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
  T most = least;
  for (; i < n; ++i) most = x[i] > most ? x[i] : most;
  for (int j = 0; j < num_lanes; ++j) most = lane[j] > most ? lane[j] : most;
  return most + T{0};
}

template <class T>
T sum_row(const T* x, std::int64_t n, T max) {
  return sum_by_lanes<T>(
      n, [ x, max ](T & lane, std::int64_t i) __attribute__((always_inline)) { lane += exp(x[i] - max); });
}

/// d = weight * (softmax - onehot); d may be the memory of x. `target` is a column here or negative.
template <class T, class D>
void gradient_row(const T* x, std::int64_t n, T max, T sum, T weight, std::int64_t target, D* d) {
  const T inverse = T{1} / sum;
  T part[chunk];
  for (std::int64_t first = 0; first < n; first += chunk) {
    const std::int64_t m = std::min(chunk, n - first);
    for (std::int64_t i = 0; i < m; ++i) part[i] = exp(x[first + i] - max) * inverse;
    if (target >= first && target < first + m) part[target - first] -= T{1};
    for (std::int64_t i = 0; i < m; ++i) d[first + i] = round_to<D>(weight * part[i]);
  }
}

template <class T>
struct Rows {
  const T* logits;
  std::int64_t num_columns, first;
  const std::int32_t* targets;

  /// The target's column among those held here, negative if it is elsewhere or absent.
  std::int64_t column(std::int64_t row) const {
    const std::int64_t c = targets[row] - first;
    return targets[row] >= 0 && c < num_columns ? c : -1;
  }
};

template <class T>
void max_rows(const Rows<T>& r, std::int64_t begin, std::int64_t end, T* max) {
  for (std::int64_t i = begin; i < end; ++i) max[i] = max_row(r.logits + i * r.num_columns, r.num_columns);
}

/// sum[leaf][num_rows]
template <class T>
void sum_rows(const Rows<T>& r, std::int64_t begin, std::int64_t end, const T* max, std::int64_t leaves,
              std::int64_t num_rows, T* sum) {
  const std::int64_t n = r.num_columns / leaves;
  for (std::int64_t i = begin; i < end; ++i)
    for (std::int64_t leaf = 0; leaf < leaves; ++leaf)
      sum[leaf * num_rows + i] = sum_row(r.logits + i * r.num_columns + leaf * n, n, max[i]);
}

template <class T, class D>
void gradient_rows(const Rows<T>& r, std::int64_t begin, std::int64_t end, const T* max, const T* sum, T weight, D* d) {
  for (std::int64_t i = begin; i < end; ++i) {
    D* row = d + i * r.num_columns;
    if (r.targets[i] < 0) {
      std::fill_n(row, r.num_columns, D{});
    } else {
      gradient_row(r.logits + i * r.num_columns, r.num_columns, max[i], sum[i], weight, r.column(i), row);
    }
  }
}

std::int64_t row_grain(std::int64_t num_columns) {
  return std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(1, num_columns));
}

void check_rows(const Tensor& logits_CV, const Tensor& per_row) {
  FOURMI_CHECK(per_row.num_elements() == logits_CV.dim(0), "logits {}, a value for each of {} rows",
               to_string(logits_CV.shape), per_row.num_elements());
}

}  // namespace

void softmax_max(const Stream& stream, const Tensor& logits_CV, const Tensor& max_C) {
  FOURMI_DOOR(softmax_max, stream, logits_CV, max_C);
  const Span span(stream.timeline(), Work::head, "softmax_max");
  check_rows(logits_CV, max_C);
  visit_accumulator(logits_CV.dtype, "softmax_max", [&]<class T>(std::type_identity<T>) {
    const Rows<T> rows{logits_CV.as<T>(), logits_CV.dim(1), 0, nullptr};
    T* max = max_C.as<T>();
    stream.pool().parallel_for(logits_CV.dim(0), row_grain(rows.num_columns),
                               [&](std::int64_t begin, std::int64_t end) { max_rows(rows, begin, end, max); });
  });
}

void mask_padding(const Stream& stream, std::int64_t first, std::int64_t vocabulary, const Tensor& logits_CV) {
  FOURMI_DOOR(mask_padding, stream, first, vocabulary, logits_CV);
  const Span span(stream.timeline(), Work::head, "mask_padding");
  const std::int64_t num_columns = logits_CV.dim(1);
  const std::int64_t kept = std::clamp(vocabulary - first, std::int64_t{0}, num_columns);
  if (kept == num_columns) return;
  visit_accumulator(logits_CV.dtype, "mask_padding", [&]<class T>(std::type_identity<T>) {
    T* logits = logits_CV.as<T>();
    for (std::int64_t i = 0; i < logits_CV.dim(0); ++i)
      std::fill(logits + i * num_columns + kept, logits + (i + 1) * num_columns, -std::numeric_limits<T>::infinity());
  });
}

void softmax_sum(const Stream& stream, const Tensor& logits_CV, const Tensor& max_C, const Tensor& targets_C,
                 std::int64_t first, const Tensor& sum_LC, const Tensor& target_logit_C, std::int64_t leaves) {
  FOURMI_DOOR(softmax_sum, stream, logits_CV, max_C, targets_C, first, sum_LC, target_logit_C, leaves);
  const Span span(stream.timeline(), Work::head, "softmax_sum");
  for (const Tensor& per_row : {max_C, targets_C, target_logit_C}) check_rows(logits_CV, per_row);
  FOURMI_CHECK(leaves >= 1 && logits_CV.dim(1) % leaves == 0 && sum_LC.num_elements() == leaves * logits_CV.dim(0),
               "logits {} in {} leaves, sums {}", to_string(logits_CV.shape), leaves, to_string(sum_LC.shape));
  visit_accumulator(logits_CV.dtype, "softmax_sum", [&]<class T>(std::type_identity<T>) {
    const Rows<T> rows{logits_CV.as<T>(), logits_CV.dim(1), first, targets_C.as<std::int32_t>()};
    const T* max = max_C.as<T>();
    T *sum = sum_LC.as<T>(), *target_logit = target_logit_C.as<T>();
    stream.pool().parallel_for(logits_CV.dim(0), row_grain(rows.num_columns),
                               [&](std::int64_t begin, std::int64_t end) {
                                 sum_rows(rows, begin, end, max, leaves, logits_CV.dim(0), sum);
                                 for (std::int64_t i = begin; i < end; ++i) {
                                   const std::int64_t column = rows.column(i);
                                   target_logit[i] = column < 0 ? T{0} : rows.logits[i * rows.num_columns + column];
                                 }
                               });
  });
}

void cross_entropy_finish(const Stream& stream, double weight, const Tensor& logits_CV, const Tensor& max_C,
                          const Tensor& sum_C, const Tensor& target_logit_C, const Tensor& targets_C,
                          std::int64_t first, const Tensor& loss_C, const Tensor& dlogits_CV) {
  FOURMI_DOOR(cross_entropy_finish, stream, weight, logits_CV, max_C, sum_C, target_logit_C, targets_C, first, loss_C,
              dlogits_CV);
  const Span span(stream.timeline(), Work::head, "cross_entropy_finish");
  for (const Tensor& per_row : {max_C, sum_C, target_logit_C, targets_C, loss_C}) check_rows(logits_CV, per_row);
  FOURMI_CHECK(!dlogits_CV || dlogits_CV.num_elements() == logits_CV.num_elements(), "logits {}, dlogits {}",
               to_string(logits_CV.shape), to_string(dlogits_CV.shape));
  visit_accumulator(logits_CV.dtype, "cross_entropy", [&]<class T>(std::type_identity<T>) {
    const Rows<T> rows{logits_CV.as<T>(), logits_CV.dim(1), first, targets_C.as<std::int32_t>()};
    const T *max = max_C.as<T>(), *sum = sum_C.as<T>(), *target_logit = target_logit_C.as<T>();
    T* loss = loss_C.as<T>();
    for (std::int64_t i = 0; i < logits_CV.dim(0); ++i)
      loss[i] = rows.targets[i] < 0 ? T{0} : log(sum[i]) + (max[i] - target_logit[i]);
    if (!dlogits_CV) return;
    visit_float(dlogits_CV.dtype, "cross_entropy", [&]<class D>(std::type_identity<D>) {
      D* d = dlogits_CV.as<D>();
      stream.pool().parallel_for(logits_CV.dim(0), row_grain(rows.num_columns),
                                 [&](std::int64_t begin, std::int64_t end) {
                                   gradient_rows(rows, begin, end, max, sum, static_cast<T>(weight), d);
                                 });
    });
  });
}

}  // namespace fourmi
