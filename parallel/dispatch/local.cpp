#include "parallel/dispatch/exchange.h"
#include "parallel/dispatch/methods.h"

namespace fourmi {
namespace {

class Local final : public Dispatcher {
 public:
  Local(Group& group, const DispatchOptions& options) : Dispatcher(DispatchMethod::local, group, options, 1) {}

  Transit start_dispatch(const Stream&, const DispatchPlan& plan, int round, const Tensor& x_MD,
                         const Tensor& weights_MK, const Arrivals&, DispatchBuffers&) override {
    Transit transit;
    transit.into.x_UD = plan.of_round(x_MD, round);
    if (weights_MK) transit.into.experts_UK = plan.of_round(plan.experts_MK, round);
    transit.into.weights_UK = plan.of_round(weights_MK, round);
    return transit;
  }
  Arrivals finish_dispatch(const Stream&, Transit& transit) override { return transit.into; }

  Transit start_combine(const Stream&, const DispatchPlan& plan, int round, const Tensor& partial_UD,
                        DispatchBuffers& buffers) override {
    return open_combine(plan, round, partial_UD, buffers);
  }
  void finish_combine(const Stream& stream, Transit& transit, const Tensor& y_MD, const Tensor& first_MD,
                      const Tensor& second_MD) override {
    const Span span(stream.timeline(), Work::combine, "combine");
    const DispatchPlan& plan = *transit.plan;
    const int round = transit.round;
    sum_copies(stream, {}, transit.into.x_UD, plan.of_round(y_MD, round), plan.of_round(first_MD, round),
               plan.of_round(second_MD, round));
  }

 protected:
  void route(const Stream&, DispatchPlan& plan, DispatchBuffers&) override {
    for (std::int64_t t = 0; t < plan.experts_MK.dim(0); ++t) ++loads_.load(0, block_of(t));
    choose_rounds(plan);
    for (int q = 0; q < plan.num_rounds(); ++q)
      plan.arriving[static_cast<std::size_t>(q)] = static_cast<std::size_t>(plan.end(q) - plan.begin(q));
    load_.most_destinations = plan.experts_MK.dim(0) > 0 ? 1 : load_.most_destinations;
  }
};

}  // namespace

std::unique_ptr<Dispatcher> make_local(Group& group, const DispatchOptions& options) {
  return std::make_unique<Local>(group, options);
}

}  // namespace fourmi
