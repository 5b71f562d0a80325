#include <algorithm>

#include "parallel/dispatch/exchange.h"
#include "parallel/dispatch/methods.h"

namespace fourmi {
namespace {

enum Kind : int { sending, receiving, num_kinds };

class AllToAll final : public Dispatcher {
 public:
  AllToAll(Group& group, const DispatchOptions& options)
      : Dispatcher(DispatchMethod::all_to_all, group, options, num_kinds),
        sent_(static_cast<std::size_t>(group.size() * num_blocks())),
        received_(sent_.size()) {}

  Transit start_dispatch(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& x_MD,
                         const Tensor& weights_MK, const Arrivals& into, DispatchBuffers& b) override {
    const Span span(stream.timeline(), Work::dispatch, "dispatch_start");
    Transit t = open_dispatch(plan, round, x_MD, weights_MK, into, b);
    const std::int64_t away = plan.tokens.num_sent_away(round);
    if (weights_MK) {
      pack_records(stream, plan.of_round(plan.experts_MK, round), plan.of_round(weights_MK, round),
                   bytes_of(b.records));
      t.records = start_scatter(stream, group_, plan.tokens, round, b.records, sizes_.record_bytes, b.packed_records,
                                b.got_records);
      traffic_.routing_bytes += away * sizes_.record_bytes;
    }
    t.rows =
        start_scatter(stream, group_, plan.tokens, round, plan.of_round(x_MD, round), t.row_bytes, b.rows, t.into.x_UD);
    traffic_.rows_across += away;
    traffic_.bytes_across += away * t.row_bytes;
    return t;
  }

  Arrivals finish_dispatch(const Stream& stream, Transit& t) override {
    const Span span(stream.timeline(), Work::dispatch, "dispatch_finish");
    if (t.into.weights_UK) {
      t.records.wait();
      unpack_records(stream, bytes_of(t.buffers.got_records), first_expert(), num_local(), t.into.experts_UK,
                     t.into.weights_UK);
    }
    t.rows.wait();
    return t.into;
  }

  Transit start_combine(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& partial_UD,
                        DispatchBuffers& b) override {
    const Span span(stream.timeline(), Work::combine, "combine_start");
    Transit t = open_combine(plan, round, partial_UD, b);
    t.rows = start_gather(group_, plan.tokens, round, partial_UD, t.row_bytes, b.rows);
    const std::int64_t away = plan.tokens.num_received_from_away(round);
    traffic_.rows_across += away;
    traffic_.bytes_across += away * t.row_bytes;
    return t;
  }

  void finish_combine(const Stream& stream, Transit& t, const Tensor& y_MD, const Tensor& first_MD,
                      const Tensor& second_MD) override {
    const Span span(stream.timeline(), Work::combine, "combine_finish");
    t.rows.wait();
    const DispatchPlan& plan = *t.plan;
    const Tensor copies(t.buffers.rows.data, t.into.x_UD.dtype, {plan.tokens.num_sent(t.round), t.into.x_UD.dim(1)},
                        t.buffers.rows.device);
    sum_copies(stream, plan.tokens.places(t.round), copies, plan.of_round(y_MD, t.round),
               plan.of_round(first_MD, t.round), plan.of_round(second_MD, t.round));
  }

 protected:
  void route(const Stream&, DispatchPlan& plan, DispatchBuffers&) override {
    Route& tokens = plan.tokens;
    tokens.size = group_.size(), tokens.rank = group_.rank();
    const std::int64_t most = list_destinations(plan.experts_MK, num_local(), tokens);
    load_.most_destinations = std::max(load_.most_destinations, most);

    std::fill(sent_.begin(), sent_.end(), 0);
    const std::int64_t M = plan.experts_MK.dim(0), C = sizes_.token_ranks, B = num_blocks();
    const auto* ranks = tokens.rank_RC.as<std::int32_t>();
    for (std::int64_t i = 0; i < M * C; ++i)
      if (ranks[i] >= 0) {
        ++sent_[static_cast<std::size_t>(ranks[i] * B + block_of(i / C))];
        ++loads_.load(sending, block_of(i / C));
      }
    exchange_lists(group_, sent_, received_);
    traffic_.routing_bytes += (group_.size() - 1) * B * size_of(DType::i64);
    const auto P = static_cast<std::size_t>(group_.size());
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(received_.size()); ++i)
      loads_.load(receiving, i % B) += received_[static_cast<std::size_t>(i)];

    choose_rounds(plan);
    tokens.reset(plan.num_rounds());
    tokens.row_begin = plan.token_begin;
    tokens.place_copies();
    for (int q = 0; q < plan.num_rounds(); ++q)
      for (std::size_t r = 0; r < P; ++r)
        tokens.received[static_cast<std::size_t>(q) * P + r] = in_round(received_, r, q);
    plan.arriving = tokens.received;
  }

 private:
  std::vector<std::int64_t> sent_, received_;  // [ranks][blocks] rows
};

}  // namespace

std::unique_ptr<Dispatcher> make_all_to_all(Group& group, const DispatchOptions& options) {
  return std::make_unique<AllToAll>(group, options);
}

}  // namespace fourmi
