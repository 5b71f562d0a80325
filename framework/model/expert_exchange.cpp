#include "framework/model/expert_exchange.h"

#include <numeric>
#include <string>

#include "kernels/exchange/window.h"

namespace fourmi {

namespace {

/// Arenas align to less than a window.
Tensor allocate_window(std::int64_t bytes, Arena& arena) {
  if (bytes == 0) return {};
  constexpr std::int64_t slack = exchange::Window::alignment - Arena::alignment;
  static_assert(slack >= 0 && exchange::Window::alignment % Arena::alignment == 0);
  Tensor t = arena.allocate({bytes + slack}, DType::u8, "window of dispatched rows");
  if (arena.measuring()) return t;
  const std::int64_t past = reinterpret_cast<std::intptr_t>(t.data) % exchange::Window::alignment;
  const std::int64_t first = past == 0 ? 0 : exchange::Window::alignment - past;
  return t.rows(first, first + bytes);
}

}  // namespace

void ExpertExchange::allocate(const ExpertRanks& ranks, const DispatchOptions& options, Arena& arena) {
  const DispatchSizes sizes = dispatch_sizes(ranks.method, ranks.size, options);
  buffers_.fields(sizes, [&](Tensor& t, std::string_view name, Shape shape, DType dtype) {
    t = arena.allocate(shape, dtype, std::string(name));
  });
}

ExpertExchange::ExpertExchange(const ExpertExchange& other, const ExpertRanks& ranks, const DispatchOptions& options,
                               Arena& arena)
    : dispatcher_(other.dispatcher_), tokens_M1_(other.tokens_M1_) {
  allocate(ranks, options, arena);
}

ExpertExchange::ExpertExchange(Group* group, const ExpertRanks& ranks, const DispatchOptions& options, Arena& arena,
                               Arena& windows) {
  allocate(ranks, options, arena);
  const Tensor window = allocate_window(dispatch_sizes(ranks.method, ranks.size, options).window_bytes, windows);
  if (ranks.cut) tokens_M1_ = arena.allocate({options.max_tokens, 1}, DType::i32, "tokens of dispatched rows");
  if (!group) return;
  FOURMI_CHECK(group->size() == ranks.size, "{} ranks that share experts, expected {}", group->size(), ranks.size);
  dispatcher_ = make_dispatcher(ranks.method, *group, options, window);
  if (!ranks.cut) return;
  auto* first = tokens_M1_.as<std::int32_t>();
  std::iota(first, first + options.max_tokens, static_cast<std::int32_t>(group->rank() * options.max_tokens));
}

void ExpertExchange::plan(const Stream& stream, const Tensor& experts_MK, DispatchPlan& plan) {
  if (plan.token_begin.capacity() == 0) dispatcher_->reserve(plan);
  dispatcher_->plan(stream, experts_MK, plan, buffers_);
}

void ExpertExchange::start_dispatch(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& x_MD,
                                    const Tensor& weights_MK, const Arrivals& into) {
  FOURMI_CHECK(!transit_.plan, "rows start to travel while others do");
  transit_ = dispatcher_->start_dispatch(stream, plan, round, x_MD, weights_MK, into, buffers_);
}

Arrivals ExpertExchange::finish_dispatch(const Stream& stream) {
  FOURMI_CHECK(transit_.plan, "no rows travel");
  const Arrivals arrived = dispatcher_->finish_dispatch(stream, transit_);
  transit_ = {};
  return arrived;
}

Arrivals ExpertExchange::dispatch(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& x_MD,
                                  const Tensor& weights_MK, const Arrivals& into) {
  start_dispatch(stream, plan, round, x_MD, weights_MK, into);
  return finish_dispatch(stream);
}

Tensor ExpertExchange::dispatch_tokens(const Stream& stream, const DispatchPlan& plan, int round,
                                       const Tensor& into_U1) {
  return dispatch(stream, plan, round, tokens_M1_.rows(0, plan.experts_MK.dim(0)), {}, {into_U1, {}, {}}).x_UD;
}

void ExpertExchange::start_combine(const Stream& stream, const DispatchPlan& plan, int round,
                                   const Tensor& partial_UD) {
  FOURMI_CHECK(!transit_.plan, "sums start to travel while others do");
  transit_ = dispatcher_->start_combine(stream, plan, round, partial_UD, buffers_);
}

void ExpertExchange::finish_combine(const Stream& stream, const Tensor& y_MD, const Tensor& first_MD,
                                    const Tensor& second_MD) {
  FOURMI_CHECK(transit_.plan, "no sums travel");
  dispatcher_->finish_combine(stream, transit_, y_MD, first_MD, second_MD);
  transit_ = {};
}

}  // namespace fourmi
