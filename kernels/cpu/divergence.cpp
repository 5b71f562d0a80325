#include "kernels/ops/divergence.h"

#include <algorithm>

#include "kernels/numerics/lanes.h"
#include "kernels/numerics/rounding.h"
#include "kernels/ops/divergence_element.h"
#include "kernels/ops/operations.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

constexpr std::int64_t chunk = 512;  // columns of a gradient that are formed at once, before they replace the logits

/// Both models' rows of a chunk.
template <class T>
struct Pair {
  const T *student, *teacher;
  const T *student_max, *student_sum, *teacher_max, *teacher_sum;
  std::int64_t num_columns;
  T inverse_temperature, beta;

  Pair(const Divergence& d, const TemperedRows& s, const TemperedRows& t)
      : student(s.logits_CV.as<T>()),
        teacher(t.logits_CV.as<T>()),
        student_max(s.max_C.as<T>()),
        student_sum(s.sum_C.as<T>()),
        teacher_max(t.max_C.as<T>()),
        teacher_sum(t.sum_C.as<T>()),
        num_columns(s.logits_CV.dim(1)),
        inverse_temperature(static_cast<T>(1 / d.temperature)),
        beta(static_cast<T>(d.beta)) {}
  TemperedRow<T> student_row(std::int64_t i) const {
    return tempered_row(student_max[i], student_sum[i], inverse_temperature);
  }
  TemperedRow<T> teacher_row(std::int64_t i) const {
    return tempered_row(teacher_max[i], teacher_sum[i], inverse_temperature);
  }
};

/// Of row i's columns from `first` on, n of them.
template <Divergence::Kind kind, class T>
void sums_of_run(const Pair<T>& r, std::int64_t i, std::int64_t first, std::int64_t n, T& loss, T& mean) {
  const TemperedRow<T> student = r.student_row(i), teacher = r.teacher_row(i);
  const T *z = r.student + i * r.num_columns + first, *y = r.teacher + i * r.num_columns + first;
  const T beta = r.beta;
  loss = sum_by_lanes<T>(
      n, [&](T & lane, std::int64_t v) __attribute__((always_inline)) {
        lane += DivergenceElement<T>(student, z[v], teacher, y[v]).template loss<kind>(beta);
      });
  if constexpr (kind == Divergence::Kind::jensen_shannon)
    mean = sum_by_lanes<T>(
        n, [&](T & lane, std::int64_t v) __attribute__((always_inline)) {
          lane += DivergenceElement<T>(student, z[v], teacher, y[v]).template mean<kind>(beta);
        });
  else
    mean = kind == Divergence::Kind::reverse_kl ? loss : T{0};
}

/// What a gradient is made of besides the two distributions.
template <class T>
struct Shares {
  T of_target, of_teacher;  ///< weight (1 - share), weight share t
};

template <Divergence::Kind kind, class T, class D>
void gradient_row(const Pair<T>& r, std::int64_t i, T mean, T plain_sum, std::int64_t target, const Shares<T>& shares,
                  D* d) {
  const TemperedRow<T> student = r.student_row(i), teacher = r.teacher_row(i);
  const TemperedRow<T> plain = tempered_row(r.student_max[i], plain_sum, T{1});
  const T *z = r.student + i * r.num_columns, *y = r.teacher + i * r.num_columns;
  T part[chunk];
  for (std::int64_t first = 0; first < r.num_columns; first += chunk) {
    const std::int64_t n = std::min(chunk, r.num_columns - first);
    for (std::int64_t v = 0; v < n; ++v)
      part[v] =
          shares.of_teacher *
          DivergenceElement<T>(student, z[first + v], teacher, y[first + v]).template gradient<kind>(r.beta, mean);
    if (shares.of_target != T{0})
      for (std::int64_t v = 0; v < n; ++v)
        part[v] += shares.of_target * (plain.probability(z[first + v]) - (first + v == target ? T{1} : T{0}));
    for (std::int64_t v = 0; v < n; ++v) d[first + v] = round_to<D>(part[v]);
  }
}

/// No card has a form of these yet.
void require_host(const Stream& stream, const char* operation) {
  if (stream.device()) detail::no_such_operation(operation);
}

std::int64_t row_grain(std::int64_t num_columns) {
  return std::max<std::int64_t>(1, 2048 / std::max<std::int64_t>(1, num_columns));
}

void check_rows(const Tensor& logits_CV, const Tensor& per_row, std::int64_t each = 1) {
  FOURMI_CHECK(per_row.num_elements() == each * logits_CV.dim(0), "logits {}, {} values for each of {} rows",
               to_string(logits_CV.shape), each, per_row.num_elements());
}

void check_pair(const Divergence& d, const TemperedRows& student, const TemperedRows& teacher) {
  FOURMI_CHECK(d.temperature > 0 && d.beta >= 0 && d.beta <= 1, "temperature {}, beta {}", d.temperature, d.beta);
  FOURMI_CHECK(student.logits_CV.shape == teacher.logits_CV.shape && student.logits_CV.dtype == teacher.logits_CV.dtype,
               "logits {} of the student, {} of the teacher", to_string(student.logits_CV.shape),
               to_string(teacher.logits_CV.shape));
  for (const TemperedRows* rows : {&student, &teacher})
    check_rows(rows->logits_CV, rows->max_C), check_rows(rows->logits_CV, rows->sum_C);
}

}  // namespace

void tempered_sum(const Stream& stream, double temperature, const Tensor& logits_CV, const Tensor& max_C,
                  const Tensor& sum_LC, std::int64_t leaves) {
  require_host(stream, "tempered_sum");
  const Span span(stream.timeline(), Work::head, "tempered_sum");
  check_rows(logits_CV, max_C), check_rows(logits_CV, sum_LC, leaves);
  FOURMI_CHECK(leaves >= 1 && logits_CV.dim(1) % leaves == 0 && temperature > 0, "logits {} in {} leaves, at {}",
               to_string(logits_CV.shape), leaves, temperature);
  visit_accumulator(logits_CV.dtype, "tempered_sum", [&]<class T>(std::type_identity<T>) {
    const T *logits = logits_CV.as<T>(), *max = max_C.as<T>();
    T* sum = sum_LC.as<T>();
    const T inverse = static_cast<T>(1 / temperature);
    const std::int64_t rows = logits_CV.dim(0), n = logits_CV.dim(1) / leaves;
    stream.pool().parallel_for(rows, row_grain(logits_CV.dim(1)), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        for (std::int64_t leaf = 0; leaf < leaves; ++leaf) {
          const T *x = logits + (i * leaves + leaf) * n, most = max[i];
          sum[leaf * rows + i] = sum_by_lanes<T>(
              n, [ x, most, inverse ](T & lane, std::int64_t v)
                     __attribute__((always_inline)) { lane += exp_of_negative((x[v] - most) * inverse); });
        }
    });
  });
}

void divergence_sums(const Stream& stream, const Divergence& d, const TemperedRows& student,
                     const TemperedRows& teacher, const Tensor& loss_LC, const Tensor& mean_LC, std::int64_t leaves) {
  require_host(stream, "divergence_sums");
  const Span span(stream.timeline(), Work::head, "divergence_sums");
  check_pair(d, student, teacher);
  const Tensor& logits_CV = student.logits_CV;
  FOURMI_CHECK(leaves >= 1 && logits_CV.dim(1) % leaves == 0, "logits {} in {} leaves", to_string(logits_CV.shape),
               leaves);
  check_rows(logits_CV, loss_LC, leaves), check_rows(logits_CV, mean_LC, leaves);
  visit_accumulator(logits_CV.dtype, "divergence_sums", [&]<class T>(std::type_identity<T>) {
    const Pair<T> pair(d, student, teacher);
    T *loss = loss_LC.as<T>(), *mean = mean_LC.as<T>();
    const std::int64_t rows = logits_CV.dim(0), n = pair.num_columns / leaves;
    visit_kind(d.kind, [&](auto kind) {
      stream.pool().parallel_for(rows, row_grain(pair.num_columns), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
          for (std::int64_t leaf = 0; leaf < leaves; ++leaf)
            sums_of_run<kind.value>(pair, i, leaf * n, n, loss[leaf * rows + i], mean[leaf * rows + i]);
      });
    });
  });
}

void divergence_finish(const Stream& stream, const Divergence& d, double weight, double share,
                       const TemperedRows& student, const TemperedRows& teacher, const DivergenceRows& rows,
                       std::int64_t first, const Tensor& divergence_C, const Tensor& dlogits_CV) {
  require_host(stream, "divergence_finish");
  const Span span(stream.timeline(), Work::head, "divergence_finish");
  check_pair(d, student, teacher);
  const Tensor& logits_CV = student.logits_CV;
  for (const Tensor& per_row : {rows.loss_C, rows.mean_C, rows.plain_sum_C, rows.targets_C, divergence_C})
    check_rows(logits_CV, per_row);
  FOURMI_CHECK(!dlogits_CV || dlogits_CV.num_elements() == logits_CV.num_elements(), "logits {}, dlogits {}",
               to_string(logits_CV.shape), to_string(dlogits_CV.shape));
  visit_accumulator(logits_CV.dtype, "divergence", [&]<class T>(std::type_identity<T>) {
    const Pair<T> pair(d, student, teacher);
    const auto* targets = rows.targets_C.as<std::int32_t>();
    const T *loss = rows.loss_C.as<T>(), *mean = rows.mean_C.as<T>(), *plain_sum = rows.plain_sum_C.as<T>();
    T* divergence = divergence_C.as<T>();
    const T square = static_cast<T>(d.temperature * d.temperature);
    const auto counts = [=](std::int64_t i) { return targets[i] >= 0 || targets[i] == divergence_alone; };
    for (std::int64_t i = 0; i < logits_CV.dim(0); ++i) divergence[i] = counts(i) ? square * loss[i] : T{0};
    if (!dlogits_CV) return;
    const Shares<T> shares{static_cast<T>(weight * (1 - share)), static_cast<T>(weight * share * d.temperature)};
    const Shares<T> alone{T{0}, shares.of_teacher};
    const auto form = [&]<class D>(auto kind, D* to) {
      const std::int64_t n = pair.num_columns;
      stream.pool().parallel_for(logits_CV.dim(0), row_grain(n), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
          if (counts(i))
            gradient_row<kind.value>(pair, i, mean[i], plain_sum[i], targets[i] - first,
                                     targets[i] < 0 ? alone : shares, to + i * n);
          else
            std::fill_n(to + i * n, n, D{});
      });
    };
    visit_float(dlogits_CV.dtype, "divergence", [&]<class D>(std::type_identity<D>) {
      visit_kind(d.kind, [&](auto kind) { form(kind, dlogits_CV.as<D>()); });
    });
  });
}

}  // namespace fourmi
