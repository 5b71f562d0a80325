// Two hops. With s ranks a node, rank n s + i sends a token once to each node m that needs it, to rank m s + i; that
// rank passes it on to the ranks of its node that hold its experts. The way back sums inside the node first, so that
// one row a node crosses.
#include "kernels/runtime/copy_rows.h"
#include "parallel/dispatch/methods.h"
#include "parallel/dispatch/nodes.h"

namespace fourmi {
namespace {

/// Rows [first, first + n) as bytes.
Tensor some(const Tensor& rows, std::int64_t first, std::int64_t n, std::int64_t row_bytes) {
  return Tensor(static_cast<std::byte*>(rows.data) + first * row_bytes, DType::u8, {n * row_bytes}, rows.device);
}

class Hierarchical final : public NodeDispatcher {
 public:
  Hierarchical(Group& group, const DispatchOptions& options)
      : NodeDispatcher(DispatchMethod::hierarchical, group, options, 1) {}

  Transit start_dispatch(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& x_MD,
                         const Tensor& weights_MK, const Arrivals& into, DispatchBuffers& b) override {
    const Span span(stream.timeline(), Work::dispatch, "dispatch_start");
    Transit t = open_dispatch(plan, round, x_MD, weights_MK, into, b);
    const std::int64_t away = plan.tokens.num_sent_away(round);
    if (weights_MK) {
      pack_records(stream, plan.of_round(plan.experts_MK, round), plan.of_round(weights_MK, round),
                   bytes_of(b.records));
      t.records = start_scatter(stream, across(), plan.tokens, round, b.records, sizes_.record_bytes, b.packed_records,
                                b.got_records);
      traffic_.routing_bytes += away * sizes_.record_bytes;
    }
    t.rows = start_scatter(stream, across(), plan.tokens, round, plan.of_round(x_MD, round), t.row_bytes, b.rows,
                           b.more_rows);
    traffic_.rows_across += away;
    traffic_.bytes_across += away * t.row_bytes;
    return t;
  }

  Arrivals finish_dispatch(const Stream& stream, Transit& t) override {
    const Span span(stream.timeline(), Work::dispatch, "dispatch_finish");
    const DispatchPlan& plan = *t.plan;
    const DispatchBuffers& b = t.buffers;
    const std::int64_t away = plan.forwards.num_sent_away(t.round);
    if (t.into.weights_UK) {
      t.records.wait();
      t.records = start_scatter(stream, inside(), plan.forwards, t.round, b.got_records, sizes_.record_bytes,
                                b.packed_records, b.records);
      traffic_.routing_bytes += away * sizes_.record_bytes;
    }
    t.rows.wait();
    // Each hop's rows are packed elsewhere before the next ones arrive in their place.
    t.rows = start_scatter(stream, inside(), plan.forwards, t.round, b.more_rows, t.row_bytes, b.rows, b.more_rows);
    traffic_.rows_inside += away;
    traffic_.bytes_inside += away * t.row_bytes;
    if (t.into.weights_UK) {
      t.records.wait();
      for_each_run(plan, t.round, [&](std::int64_t by_peer, std::int64_t by_source, std::int64_t n) {
        unpack_records(stream, some(b.records, by_peer, n, sizes_.record_bytes), first_expert(), num_local(),
                       t.into.experts_UK.rows(by_source, by_source + n),
                       t.into.weights_UK.rows(by_source, by_source + n));
      });
    }
    t.rows.wait();
    for_each_run(plan, t.round, [&](std::int64_t by_peer, std::int64_t by_source, std::int64_t n) {
      copy_rows(stream, b.more_rows, by_peer, t.into.x_UD, by_source, n, t.row_bytes);
    });
    return t.into;
  }

  Transit start_combine(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& partial_UD,
                        DispatchBuffers& b) override {
    const Span span(stream.timeline(), Work::combine, "combine_start");
    Transit t = open_combine(plan, round, partial_UD, b);
    for_each_run(plan, round, [&](std::int64_t by_peer, std::int64_t by_source, std::int64_t n) {
      copy_rows(stream, partial_UD, by_source, b.rows, by_peer, n, t.row_bytes);
    });
    t.rows = start_gather(inside(), plan.forwards, round, b.rows, t.row_bytes, b.more_rows);
    const std::int64_t away = plan.forwards.num_received_from_away(round);
    traffic_.rows_inside += away;
    traffic_.bytes_inside += away * t.row_bytes;
    return t;
  }

  void finish_combine(const Stream& stream, Transit& t, const Tensor& y_MD, const Tensor& first_MD,
                      const Tensor& second_MD) override {
    const Span span(stream.timeline(), Work::combine, "combine_finish");
    const DispatchPlan& plan = *t.plan;
    const DispatchBuffers& b = t.buffers;
    const std::int64_t D = t.into.x_UD.dim(1), forwards = plan.forwards.num_rows(t.round);
    const auto as_rows = [&](const Tensor& bytes, std::int64_t n) {
      return Tensor(bytes.data, t.into.x_UD.dtype, {n, D}, bytes.device);
    };
    t.rows.wait();
    sum_copies(stream, plan.forwards.places(t.round), as_rows(b.more_rows, plan.forwards.num_sent(t.round)),
               as_rows(b.rows, forwards));
    t.rows = start_gather(across(), plan.tokens, t.round, b.rows, t.row_bytes, b.more_rows);
    const std::int64_t away = plan.tokens.num_received_from_away(t.round);
    traffic_.rows_across += away;
    traffic_.bytes_across += away * t.row_bytes;
    t.rows.wait();
    sum_copies(stream, plan.tokens.places(t.round), as_rows(b.more_rows, plan.tokens.num_sent(t.round)),
               plan.of_round(y_MD, t.round), plan.of_round(first_MD, t.round), plan.of_round(second_MD, t.round));
  }

 protected:
  void route(const Stream&, DispatchPlan& plan, DispatchBuffers&) override {
    ask_nodes(plan);
    hear_inside();
    choose_rounds(plan);
    lay_out(plan, false);
    for (int q = 0; q < plan.num_rounds(); ++q)
      for (int n = 0; n < num_nodes(); ++n)
        for (int i = 0; i < node_size(); ++i) {
          const std::size_t arriving = heard_inside(i, n, q);
          plan.forwards.received[static_cast<std::size_t>(q * node_size() + i)] += arriving;
          plan.arriving[static_cast<std::size_t>((q * num_nodes() + n) * node_size() + i)] = arriving;
        }
    plan.forwards.place_copies();
  }

 private:
  /// Calls visit(by_peer, by_source, n): rows come from peers of the node, each with the rows of all nodes; arrivals
  /// are ordered by source rank. Runs of n rows lie at these places in the two orders.
  template <class Visit>
  void for_each_run(const DispatchPlan& plan, int round, const Visit& visit) const {
    const auto nodes = static_cast<std::size_t>(num_nodes()), places = static_cast<std::size_t>(node_size());
    const std::size_t* arriving = plan.arriving.data() + static_cast<std::size_t>(round) * nodes * places;
    std::size_t by_peer = 0;
    for (std::size_t i = 0; i < places; ++i)
      for (std::size_t n = 0; n < nodes; ++n) {
        const std::size_t source = n * places + i;
        std::size_t by_source = 0;
        for (std::size_t r = 0; r < source; ++r) by_source += arriving[r];
        if (arriving[source] > 0)
          visit(static_cast<std::int64_t>(by_peer), static_cast<std::int64_t>(by_source),
                static_cast<std::int64_t>(arriving[source]));
        by_peer += arriving[source];
      }
  }
};

}  // namespace

std::unique_ptr<Dispatcher> make_hierarchical(Group& group, const DispatchOptions& options) {
  return std::make_unique<Hierarchical>(group, options);
}

}  // namespace fourmi
