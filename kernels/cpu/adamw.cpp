#include "kernels/ops/adamw.h"

#include "kernels/numerics/math.h"
#include "kernels/numerics/rounding.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

/// base^n by repeated squaring, in fp64.
double power(double base, std::int64_t n) {
  double result = 1.0;
  for (; n > 0; n >>= 1) {
    if (n & 1) result *= base;
    base *= base;
  }
  return result;
}

/// The scalars of a step, formed in fp64 and rounded once to the accumulator dtype A.
template <class A>
struct Scalars {
  A grad_scale, beta1, rest1, beta2, rest2, correction1, correction2, epsilon, decay, minus_rate;

  explicit Scalars(const AdamW& o)
      : grad_scale(static_cast<A>(o.grad_scale)),
        beta1(static_cast<A>(o.beta1)),
        rest1(static_cast<A>(1 - o.beta1)),
        beta2(static_cast<A>(o.beta2)),
        rest2(static_cast<A>(1 - o.beta2)),
        correction1(static_cast<A>(1 / (1 - power(o.beta1, o.step)))),
        correction2(static_cast<A>(1 / (1 - power(o.beta2, o.step)))),
        epsilon(static_cast<A>(o.epsilon)),
        decay(static_cast<A>(o.weight_decay)),
        minus_rate(static_cast<A>(-o.learning_rate)) {}
};

/// The sequence of docs/numerics.md "AdamW". W is void where the weight is the master itself.
template <class A, class Moment, class W>
void update(const Scalars<A>& s, const A* __restrict grad, A* __restrict master, Moment* __restrict exp_avg,
            Moment* __restrict exp_avg_sq, W* __restrict weight, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const A g = grad[i] * s.grad_scale;
    const A m = fma(s.beta1, static_cast<A>(exp_avg[i]), s.rest1 * g);
    const A v = fma(s.beta2, static_cast<A>(exp_avg_sq[i]), s.rest2 * g * g);
    const A direction = (m * s.correction1) / (square_root(v * s.correction2) + s.epsilon);
    const A w = fma(s.minus_rate, fma(s.decay, master[i], direction), master[i]);
    exp_avg[i] = round_to<Moment>(m);
    exp_avg_sq[i] = round_to<Moment>(v);
    master[i] = w;
    if constexpr (!std::is_void_v<W>) weight[i] = round_to<W>(w);
  }
}

}  // namespace

void adamw_step(const Stream& stream, const AdamW& options, const Tensor& grad, const Tensor& master,
                const Tensor& exp_avg, const Tensor& exp_avg_sq, const Tensor& weight) {
  FOURMI_DOOR(adamw_step, stream, options, grad, master, exp_avg, exp_avg_sq, weight);
  const Span span(stream.timeline(), Work::optimizer, "adamw_step");
  const std::int64_t n = master.num_elements();
  FOURMI_CHECK(options.step >= 1, "step {}", options.step);
  FOURMI_CHECK(exp_avg.dtype == exp_avg_sq.dtype, "moments of {} and {}", name_of(exp_avg.dtype),
               name_of(exp_avg_sq.dtype));
  FOURMI_CHECK(grad.num_elements() == n && exp_avg.num_elements() == n && exp_avg_sq.num_elements() == n &&
                   weight.num_elements() == n,
               "gradient {}, master {}, moments {} and {}, weight {}", to_string(grad.shape), to_string(master.shape),
               to_string(exp_avg.shape), to_string(exp_avg_sq.shape), to_string(weight.shape));
  visit_accumulator(master.dtype, "adamw_step", [&]<class A>(std::type_identity<A>) {
    const Scalars<A> scalars(options);
    const auto run = [&]<class Moment, class W>(Moment* first, Moment* second, W* out) {
      stream.pool().parallel_for(n, 1 << 15, [&](std::int64_t begin, std::int64_t end) {
        W* part = out;
        if constexpr (!std::is_void_v<W>) part += begin;
        update(scalars, grad.as<A>() + begin, master.as<A>() + begin, first + begin, second + begin, part, end - begin);
      });
    };
    const auto with_moments = [&]<class Moment>(Moment* first, Moment* second) {
      if (weight.data == master.data && weight.dtype == master.dtype)
        return run(first, second, static_cast<void*>(nullptr));
      visit_float(weight.dtype, "adamw_step",
                  [&]<class W>(std::type_identity<W>) { run(first, second, weight.as<W>()); });
    };
    if (exp_avg.dtype == DType::bf16) return with_moments(exp_avg.as<bfloat16>(), exp_avg_sq.as<bfloat16>());
    with_moments(exp_avg.as<A>(), exp_avg_sq.as<A>());
  });
}

}  // namespace fourmi
