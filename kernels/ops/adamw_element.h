// One element's step of AdamW, for CPU and GPU: the sequence of docs/numerics.md "AdamW", written once.
#pragma once

#include <cstdint>

#include "kernels/numerics/lanes.h"
#include "kernels/numerics/rounding.h"
#include "kernels/ops/adamw.h"

namespace fourmi {

namespace detail {
/// base^n by repeated squaring, in fp64.
inline double power(double base, std::int64_t n) {
  double result = 1.0;
  for (; n > 0; n >>= 1) {
    if (n & 1) result *= base;
    base *= base;
  }
  return result;
}
}  // namespace detail

/// The scalars of a step, formed in fp64 and rounded once to the accumulator dtype A.
template <class A>
struct AdamWScalars {
  A grad_scale, beta1, rest1, beta2, rest2, correction1, correction2, epsilon, decay, minus_rate;

  explicit AdamWScalars(const AdamW& o)
      : grad_scale(static_cast<A>(o.grad_scale)),
        beta1(static_cast<A>(o.beta1)),
        rest1(static_cast<A>(1 - o.beta1)),
        beta2(static_cast<A>(o.beta2)),
        rest2(static_cast<A>(1 - o.beta2)),
        correction1(static_cast<A>(1 / (1 - detail::power(o.beta1, o.step)))),
        correction2(static_cast<A>(1 / (1 - detail::power(o.beta2, o.step)))),
        epsilon(static_cast<A>(o.epsilon)),
        decay(static_cast<A>(o.weight_decay)),
        minus_rate(static_cast<A>(-o.learning_rate)) {}
};

/// The moments are used before they are rounded.
template <class A, class Moment>
FOURMI_INLINE void adamw_element(const AdamWScalars<A>& s, A grad, A& master, Moment& exp_avg, Moment& exp_avg_sq) {
  const A g = grad * s.grad_scale;
  const A m = fma(s.beta1, widen<A>(exp_avg), s.rest1 * g);
  const A v = fma(s.beta2, widen<A>(exp_avg_sq), s.rest2 * g * g);
  const A direction = (m * s.correction1) / (square_root(v * s.correction2) + s.epsilon);
  master = fma(s.minus_rate, fma(s.decay, master, direction), master);
  exp_avg = round_to<Moment>(m);
  exp_avg_sq = round_to<Moment>(v);
}

}  // namespace fourmi
