#include "kernels/ops/adamw.h"

#include "kernels/ops/adamw_element.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

/// W is void where the weight is the master itself.
template <class A, class Moment, class W>
void update(const AdamWScalars<A>& s, const A* __restrict grad, A* __restrict master, Moment* __restrict exp_avg,
            Moment* __restrict exp_avg_sq, W* __restrict weight, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    A w = master[i];
    Moment m = exp_avg[i], v = exp_avg_sq[i];
    adamw_element(s, grad[i], w, m, v);
    exp_avg[i] = m, exp_avg_sq[i] = v;
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
    const AdamWScalars<A> scalars(options);
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
