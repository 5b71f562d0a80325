// What one column adds to a divergence, and its part of the gradient (divergence.h): written so that a card can have
// the same sequences of rounded operations.
#pragma once

#include "kernels/numerics/exp_of_negative.h"
#include "kernels/numerics/math.h"
#include "kernels/numerics/target.h"
#include "kernels/ops/divergence.h"

namespace fourmi {

/// One row's softmax at a temperature.
template <class T>
struct TemperedRow {
  T max, log_sum, inverse_sum, inverse_temperature;

  FOURMI_INLINE T exponent(T logit) const { return (logit - max) * inverse_temperature; }
  FOURMI_INLINE T log_probability(T logit) const { return exponent(logit) - log_sum; }
  FOURMI_INLINE T probability(T logit) const { return exp_of_negative(exponent(logit)) * inverse_sum; }
};

template <class T>
FOURMI_INLINE TemperedRow<T> tempered_row(T max, T sum, T inverse_temperature) {
  return {max, log(sum), T{1} / sum, inverse_temperature};
}

/// A column of both models.
template <class T>
struct DivergenceElement {
  T p, log_p, q, log_q;

  FOURMI_INLINE DivergenceElement(const TemperedRow<T>& student, T z, const TemperedRow<T>& teacher, T y)
      : p(teacher.probability(y)),
        log_p(teacher.log_probability(y)),
        q(student.probability(z)),
        log_q(student.log_probability(z)) {}

  /// x log(x / y); what has no probability adds nothing, and a NaN stays one.
  static FOURMI_INLINE T part(T x, T log_x, T log_y) { return x == T{0} ? T{0} : x * (log_x - log_y); }
  FOURMI_INLINE T log_mixture(T beta) const { return log(beta * p + (T{1} - beta) * q); }

  /// Of the mean under q.
  template <Divergence::Kind kind>
  FOURMI_INLINE T mean(T beta) const {
    if constexpr (kind == Divergence::Kind::forward_kl) return T{0};
    if constexpr (kind == Divergence::Kind::reverse_kl) return part(q, log_q, log_p);
    return part(q, log_q, log_mixture(beta));
  }
  template <Divergence::Kind kind>
  FOURMI_INLINE T loss(T beta) const {
    if constexpr (kind == Divergence::Kind::forward_kl) return part(p, log_p, log_q);
    if constexpr (kind == Divergence::Kind::reverse_kl) return part(q, log_q, log_p);
    const T log_m = log_mixture(beta);
    return beta * part(p, log_p, log_m) + (T{1} - beta) * part(q, log_q, log_m);
  }
  /// Without the factor t.
  template <Divergence::Kind kind>
  FOURMI_INLINE T gradient(T beta, T mean_of_row) const {
    if constexpr (kind == Divergence::Kind::forward_kl) return q - p;
    if (q == T{0}) return T{0};
    if constexpr (kind == Divergence::Kind::reverse_kl) return q * (log_q - log_p - mean_of_row);
    return (T{1} - beta) * (q * (log_q - log_mixture(beta) - mean_of_row));
  }
};

/// Calls f(std::integral_constant<Divergence::Kind, kind>{}).
template <class F>
void visit_kind(Divergence::Kind kind, const F& f) {
  using Kind = Divergence::Kind;
  switch (kind) {
    case Kind::forward_kl:
      return f(std::integral_constant<Kind, Kind::forward_kl>{});
    case Kind::reverse_kl:
      return f(std::integral_constant<Kind, Kind::reverse_kl>{});
    case Kind::jensen_shannon:
      return f(std::integral_constant<Kind, Kind::jensen_shannon>{});
  }
}

}  // namespace fourmi
