#include "kernels/ops/sparse_divergence.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/numerics/lanes.h"
#include "kernels/numerics/rounding.h"
#include "kernels/ops/divergence_element.h"
#include "kernels/ops/operations.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

/// Of one row, with those of its tokens that are columns here.
template <class T>
struct KnownRow {
  const std::int32_t* ids;
  const T* probabilities;
  std::int64_t count, first, num_columns;

  KnownRow(const SparseRows& rows, std::int64_t i, std::int64_t first_column, std::int64_t columns)
      : ids(rows.ids_CK.as<std::int32_t>() + i * rows.ids_CK.dim(1)),
        probabilities(rows.probabilities_CK.as<T>() + i * rows.ids_CK.dim(1)),
        count(rows.ids_CK.dim(1)),
        first(first_column),
        num_columns(columns) {}

  /// Calls visit(column, probability).
  template <class Visit>
  void each_here(const Visit& visit) const {
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int64_t column = ids[k] - first;
      if (ids[k] >= 0 && column >= 0 && column < num_columns) visit(column, probabilities[k]);
    }
  }
  /// Over all that is known, in order.
  template <class Part>
  T sum(const Part& part) const {
    T all{0};
    for (std::int64_t k = 0; k < count; ++k)
      if (ids[k] >= 0) all += part(probabilities[k]);
    return all;
  }
};

void require_host_of_sparse(const Stream& stream, const char* operation) {
  if (stream.device()) detail::no_such_operation(operation);
}

std::int64_t grain_of_rows(std::int64_t num_columns) {
  return std::max<std::int64_t>(1, 4096 / std::max<std::int64_t>(1, num_columns));
}

void check_known(const SparseRows& rows, const Tensor& logits_CV) {
  const std::int64_t n = logits_CV.dim(0);
  FOURMI_CHECK(rows.ids_CK.dim(0) == n && rows.ids_CK.shape == rows.probabilities_CK.shape &&
                   rows.rest_C.num_elements() == n && rows.ids_CK.dtype == DType::i32 &&
                   rows.probabilities_CK.dtype == logits_CV.dtype && rows.rest_C.dtype == logits_CV.dtype,
               "logits {}, known {}, probabilities {}, rest {}", to_string(logits_CV.shape),
               to_string(rows.ids_CK.shape), to_string(rows.probabilities_CK.shape), to_string(rows.rest_C.shape));
}

void check_each(const Tensor& logits_CV, const Tensor& per_row, std::int64_t each = 1) {
  FOURMI_CHECK(per_row.num_elements() == each * logits_CV.dim(0), "logits {}, {} values for each of {} rows",
               to_string(logits_CV.shape), each, per_row.num_elements());
}

}  // namespace

void unknown_sum(const Stream& stream, double temperature, const SparseRows& rows, const Tensor& logits_CV,
                 const Tensor& max_C, std::int64_t first, const Tensor& sum_LC, std::int64_t leaves) {
  require_host_of_sparse(stream, "unknown_sum");
  const Span span(stream.timeline(), Work::head, "unknown_sum");
  check_known(rows, logits_CV), check_each(logits_CV, max_C), check_each(logits_CV, sum_LC, leaves);
  FOURMI_CHECK(leaves >= 1 && logits_CV.dim(1) % leaves == 0 && temperature > 0, "logits {} in {} leaves, at {}",
               to_string(logits_CV.shape), leaves, temperature);
  visit_accumulator(logits_CV.dtype, "unknown_sum", [&]<class T>(std::type_identity<T>) {
    const T* max = max_C.as<T>();
    T *logits = logits_CV.as<T>(), *sum = sum_LC.as<T>();
    const T inverse = static_cast<T>(1 / temperature);
    const std::int64_t count = logits_CV.dim(0), V = logits_CV.dim(1), n = V / leaves;
    stream.pool().parallel_for(count, grain_of_rows(V), [&](std::int64_t begin, std::int64_t end) {
      std::vector<T> kept(static_cast<std::size_t>(rows.ids_CK.dim(1)));
      for (std::int64_t i = begin; i < end; ++i) {
        const KnownRow<T> known(rows, i, first, V);
        T* const row = logits + i * V;
        std::size_t next = 0;
        known.each_here([&](std::int64_t column, T) {
          kept[next++] = std::exchange(row[column], -std::numeric_limits<T>::infinity());
        });
        for (std::int64_t leaf = 0; leaf < leaves; ++leaf) {
          const T *x = row + leaf * n, most = max[i];
          sum[leaf * count + i] = sum_by_lanes<T>(
              n, [ x, most, inverse ](T & lane, std::int64_t v)
                     __attribute__((always_inline)) { lane += exp_of_negative((x[v] - most) * inverse); });
        }
        next = 0;
        known.each_here([&](std::int64_t column, T) { row[column] = kept[next++]; });
      }
    });
  });
}

void sparse_divergence_sums(const Stream& stream, double temperature, const SparseRows& rows,
                            const TemperedRows& student, std::int64_t first, const Tensor& loss_LC,
                            std::int64_t leaves) {
  require_host_of_sparse(stream, "sparse_divergence_sums");
  const Span span(stream.timeline(), Work::head, "sparse_divergence_sums");
  const Tensor& logits_CV = student.logits_CV;
  check_known(rows, logits_CV), check_each(logits_CV, student.max_C), check_each(logits_CV, student.sum_C);
  check_each(logits_CV, loss_LC, leaves);
  FOURMI_CHECK(leaves >= 1 && logits_CV.dim(1) % leaves == 0 && temperature > 0, "logits {} in {} leaves, at {}",
               to_string(logits_CV.shape), leaves, temperature);
  visit_accumulator(logits_CV.dtype, "sparse_divergence_sums", [&]<class T>(std::type_identity<T>) {
    const std::int64_t count = logits_CV.dim(0), V = logits_CV.dim(1), n = V / leaves;
    T* const loss = loss_LC.as<T>();
    std::fill_n(loss, leaves * count, T{0});
    for (std::int64_t i = 0; i < count; ++i) {
      const TemperedRow<T> row =
          tempered_row(student.max_C.as<T>()[i], student.sum_C.as<T>()[i], static_cast<T>(1 / temperature));
      const T* const z = logits_CV.as<T>() + i * V;
      KnownRow<T>(rows, i, first, V).each_here([&](std::int64_t column, T p) {
        loss[column / n * count + i] -= p * row.log_probability(z[column]);
      });
    }
  });
}

namespace {

/// What the gradient of one row is made of: weight (1 - share), weight share t; the student's q times these in K and
/// outside.
template <class T>
struct SparseGradient {
  T of_target, of_teacher, in_known, outside;

  FOURMI_INLINE T operator()(T q, T factor, T p, T plain) const {
    return of_teacher * (factor * q - p) + of_target * plain;
  }
};

template <class T, class D>
void sparse_gradient_row(const SparseGradient<T>& g, const KnownRow<T>& known, const TemperedRow<T>& student,
                         const TemperedRow<T>& plain, std::int64_t target, const T* z, D* d) {
  const std::int64_t V = known.num_columns;
  // At temperature 1 both are the same softmax.
  const bool same = student.inverse_temperature == T{1};
  if (same || g.of_target == T{0}) {
    const T factor = g.of_teacher * g.outside + (same ? g.of_target : T{0});
    for (std::int64_t v = 0; v < V; ++v) d[v] = round_to<D>(factor * student.probability(z[v]));
  } else {
    for (std::int64_t v = 0; v < V; ++v)
      d[v] = round_to<D>(g(student.probability(z[v]), g.outside, T{0}, plain.probability(z[v])));
  }
  const auto exact = [&](std::int64_t v, T factor, T p) {
    const T of_data = g.of_target == T{0} ? T{0} : plain.probability(z[v]) - (v == target ? T{1} : T{0});
    d[v] = round_to<D>(g(student.probability(z[v]), factor, p, of_data));
  };
  if (target >= 0 && target < V && g.of_target != T{0}) exact(target, g.outside, T{0});
  known.each_here([&](std::int64_t column, T p) { exact(column, g.in_known, p); });
}

}  // namespace

void sparse_divergence_finish(const Stream& stream, double temperature, double weight, double share,
                              const SparseRows& rows, const TemperedRows& student, const SparseSums& sums,
                              std::int64_t first, const Tensor& divergence_C, const Tensor& dlogits_CV) {
  require_host_of_sparse(stream, "sparse_divergence_finish");
  const Span span(stream.timeline(), Work::head, "sparse_divergence_finish");
  const Tensor& logits_CV = student.logits_CV;
  const bool has_rest = rows.kind == SparseRows::Kind::top_k;
  check_known(rows, logits_CV);
  for (const Tensor& per_row :
       {student.max_C, student.sum_C, sums.loss_C, sums.plain_sum_C, sums.targets_C, divergence_C})
    check_each(logits_CV, per_row);
  if (has_rest) check_each(logits_CV, sums.unknown_C);
  FOURMI_CHECK(
      !dlogits_CV || (dlogits_CV.num_elements() == logits_CV.num_elements() && dlogits_CV.data != logits_CV.data),
      "logits {}, dlogits {}", to_string(logits_CV.shape), to_string(dlogits_CV.shape));
  visit_accumulator(logits_CV.dtype, "sparse_divergence", [&]<class T>(std::type_identity<T>) {
    const std::int64_t count = logits_CV.dim(0), V = logits_CV.dim(1);
    const auto* targets = sums.targets_C.as<std::int32_t>();
    const T inverse = static_cast<T>(1 / temperature), square = static_cast<T>(temperature * temperature);
    const auto known_row = [&](std::int64_t i) { return KnownRow<T>(rows, i, first, V); };
    const auto student_row = [&](std::int64_t i) {
      return tempered_row(student.max_C.as<T>()[i], student.sum_C.as<T>()[i], inverse);
    };
    T* const divergence = divergence_C.as<T>();
    for (std::int64_t i = 0; i < count; ++i) {
      if (targets[i] < 0) {
        divergence[i] = T{0};
        continue;
      }
      const T rest = rows.rest_C.as<T>()[i], cross = sums.loss_C.as<T>()[i];
      if (has_rest) {
        T loss = cross + known_row(i).sum([](T p) { return p * log(p); });
        if (rest > T{0}) loss += rest * (log(rest) - log(sums.unknown_C.as<T>()[i]) + student_row(i).log_sum);
        divergence[i] = square * loss;
      } else {
        divergence[i] = square * (cross - rest);
      }
    }
    if (!dlogits_CV) return;
    const auto form = [&]<class D>(D* to) {
      stream.pool().parallel_for(count, grain_of_rows(V), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          if (targets[i] < 0) {
            std::fill_n(to + i * V, V, D{});
            continue;
          }
          const KnownRow<T> known = known_row(i);
          const TemperedRow<T> of_student = student_row(i),
                               plain = tempered_row(student.max_C.as<T>()[i], sums.plain_sum_C.as<T>()[i], T{1});
          T mass = known.sum([](T p) { return p; }), outside = mass;
          if (has_rest) {
            const T rest = rows.rest_C.as<T>()[i];
            mass += rest, outside = mass;
            if (rest > T{0}) outside -= rest / (sums.unknown_C.as<T>()[i] * of_student.inverse_sum);
          }
          const SparseGradient<T> g{static_cast<T>(weight * (1 - share)), static_cast<T>(weight * share * temperature),
                                    mass, outside};
          sparse_gradient_row(g, known, of_student, plain, targets[i] - first, logits_CV.as<T>() + i * V, to + i * V);
        }
      });
    };
    visit_float(dlogits_CV.dtype, "sparse_divergence",
                [&]<class D>(std::type_identity<D>) { form(dlogits_CV.as<D>()); });
  });
}

}  // namespace fourmi
