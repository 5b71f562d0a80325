// The dispatcher by kernels (parallel/dispatch/on_card.cpp) for test bodies that have their rows on the host: brings
// them to the card and back.
#pragma once

#include "kernels/runtime/arena.h"
#include "tests/device/card.h"
#include "tests/dispatch/member.h"

namespace fourmi::testing {

class ThroughCard final : public Dispatcher {
 public:
  ThroughCard(Group& group, const DispatchOptions& options)
      : Dispatcher(DispatchMethod::device, group, options, 1),
        device_(test::card().make_stream()),
        pool_(1),
        stream_(*device_, pool_),
        arena_({.name = "card", .device = &test::card()}, std::int64_t{8} << 20) {
    group.use_device(*device_);
    DispatchOptions o = options;
    o.on_card = true;
    const DispatchSizes sizes = dispatch_sizes(DispatchMethod::device, group.size(), o);
    const auto take = [&](std::int64_t bytes) { return arena_.allocate({bytes + 256}, DType::u8, "card"); };
    const Tensor raw = take(sizes.window_bytes);
    const std::int64_t past = reinterpret_cast<std::intptr_t>(raw.data) % exchange::Window::alignment;
    const std::int64_t first = past == 0 ? 0 : exchange::Window::alignment - past;
    const auto visit = [&](Tensor& t, std::string_view, const Shape& shape, DType dtype) {
      t = arena_.allocate(shape, dtype, "card");
    };
    plan_.fields(sizes, visit), buffers_.fields(sizes, visit);
    for (Tensor& t : of_tokens_) t = take(options.max_tokens * options.row_bytes);
    experts_ = take(options.max_tokens * options.num_choices * 4), weights_ = take(2 * experts_.bytes());
    for (Tensor& t : arrived_) t = take(sizes.most_arrivals * options.row_bytes);
    arrived_experts_ = take(sizes.most_arrivals * options.num_choices * 4);
    arrived_weights_ = take(2 * arrived_experts_.bytes());
    most_ = sizes.most_arrivals;
    inner_ = make_dispatcher(DispatchMethod::device, group, o, raw.rows(first, first + sizes.window_bytes));
    inner_->reserve(plan_);
  }

  void plan(const Stream&, const Tensor& experts_MK, DispatchPlan& plan, DispatchBuffers&) override {
    inner_->plan(stream_, bring(experts_MK, experts_), plan_, buffers_);
    plan.experts_MK = experts_MK, plan.token_begin = plan_.token_begin;
  }
  Transit start_dispatch(const Stream&, const DispatchPlan& plan, int round, const Tensor& x_MD,
                         const Tensor& weights_MK, const Arrivals& into, DispatchBuffers&) override {
    const DType weights = options_.weights;
    const Arrivals there{like(arrived_[0], x_MD.dtype, {most_, x_MD.dim(1)}),
                         like(arrived_experts_, DType::i32, {most_, options_.num_choices}),
                         like(arrived_weights_, weights, {most_, options_.num_choices})};
    under_way_ = inner_->start_dispatch(stream_, plan_, round, bring(x_MD, of_tokens_[0]), bring(weights_MK, weights_),
                                        weights_MK ? there : Arrivals{there.x_UD, {}, {}}, buffers_);
    Transit t;
    t.plan = &plan, t.round = round, t.into = into;
    return t;
  }
  Arrivals finish_dispatch(const Stream&, Transit& t) override {
    const Arrivals got = inner_->finish_dispatch(stream_, under_way_);
    Arrivals here;
    here.x_UD = back(got.x_UD, t.into.x_UD);
    if (got.weights_UK) {
      here.experts_UK = back(got.experts_UK, t.into.experts_UK);
      here.weights_UK = back(got.weights_UK, t.into.weights_UK);
    }
    return take_figures(), here;
  }
  Transit start_combine(const Stream&, const DispatchPlan& plan, int round, const Tensor& partial_UD,
                        DispatchBuffers&) override {
    under_way_ = inner_->start_combine(stream_, plan_, round, bring(partial_UD, arrived_[1]), buffers_);
    Transit t;
    t.plan = &plan, t.round = round;
    return t;
  }
  void finish_combine(const Stream&, Transit& t, const Tensor& y_MD, const Tensor& first_MD,
                      const Tensor& second_MD) override {
    const Tensor y = like(of_tokens_[1], y_MD.dtype, y_MD.shape);
    inner_->finish_combine(stream_, under_way_, y, bring(first_MD, of_tokens_[2]), bring(second_MD, of_tokens_[3]));
    device_->synchronize();
    inner_->check();
    back(t.plan->of_round(y, t.round), t.plan->of_round(y_MD, t.round));
    take_figures();
  }

 protected:
  void route(const Stream&, DispatchPlan&, DispatchBuffers&) override {}

 private:
  static Tensor like(const Tensor& memory, DType dtype, const Shape& shape) {
    Tensor t(memory.data, dtype, shape);
    t.device = Device::cuda;
    FOURMI_CHECK(t.bytes() <= memory.bytes(), "{} bytes of {}", t.bytes(), memory.bytes());
    return t;
  }
  Tensor bring(const Tensor& host, const Tensor& memory) const {
    if (!host.data && host.num_elements() > 0) return host;
    if (host.shape.rank == 0) return host;
    const Tensor t = like(memory, host.dtype, host.shape);
    if (t.bytes() > 0) device_->write(t.data, host.data, t.bytes());
    return t;
  }
  Tensor back(const Tensor& device, const Tensor& memory) const {
    Tensor t(memory.data, device.dtype, device.shape);
    if (t.bytes() > 0) device_->read(t.data, device.data, t.bytes());
    return t;
  }
  void take_figures() { load_ = inner_->load(), traffic_ = inner_->traffic(); }

  std::unique_ptr<DeviceStream> device_;
  ThreadPool pool_;
  Stream stream_;
  Arena arena_;
  DispatchPlan plan_;
  DispatchBuffers buffers_;
  Tensor of_tokens_[4], arrived_[2], experts_, weights_, arrived_experts_, arrived_weights_;
  std::int64_t most_ = 0;
  std::unique_ptr<Dispatcher> inner_;
  Transit under_way_;
};

}  // namespace fourmi::testing
