// Between nodes by the group, inside a node by writing into peers' memory. A token goes once to each node that holds
// some of its experts, to the rank with the same place there (the rail), in messages that the host posts; that rank
// passes its row on to the node's ranks by rings (kernels/exchange), and sums what comes back from them by the tree,
// before one row goes home. The bits are those of every dispatcher: a node's ranks are a subtree (numerics.md L6).
//
// Rows cross in chunks: all are posted at once, and the rows of a chunk go on inside while the next one travels. Sums
// of a chunk leave while those of the next one are made.
//
// Agent: as in DeviceDispatcher.
#pragma once

#include "parallel/dispatch/device_window.h"
#include "parallel/dispatch/rail_rings.h"

namespace fourmi {

/// Of a rank's node: a channel for each source node and chunk.
exchange::Window rail_window(int num_ranks, const DispatchOptions& options);

template <class Agent>
class RailDispatcher final : public NodeDispatcher {
 public:
  RailDispatcher(Group& group, const DispatchOptions& options, const Tensor& window, Agent agent)
      : NodeDispatcher(DispatchMethod::rail, group, options, options.num_channels),
        node_rings_(group, inside(), node(), rail_window(group.size(), options), window, std::move(agent),
                    options.patience),
        rings_(node_rings_.rings()) {
    arriving_.reserve(8);
  }

  Transit start_dispatch(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& x_MD,
                         const Tensor& weights_MK, const Arrivals& into, DispatchBuffers& b) override {
    const Span span(stream.timeline(), Work::dispatch, "dispatch_start");
    Transit t = open_dispatch(plan, round, x_MD, weights_MK, into, b);
    const std::int64_t record_bytes = weights_MK ? sizes_.record_bytes : 0;
    const Tensor places = plan.tokens.of_round(plan.tokens.row_RC, round);
    if (weights_MK) {
      pack_records(stream, plan.of_round(plan.experts_MK, round), plan.of_round(weights_MK, round),
                   bytes_of(b.records));
      spread_rows(stream, bytes_of(b.records), record_bytes, places, bytes_of(b.packed_records));
    }
    spread_rows(stream, bytes_of(plan.of_round(x_MD, round)), t.row_bytes, places, bytes_of(b.rows));

    RailTransfer& p = take(exchange::Way::dispatch, t);
    arriving_.push_back(&p);
    const exchange::Tokens rows = forwards_of(t, b.more_rows);
    const auto* const records = weights_MK ? static_cast<const std::byte*>(b.records.data) : nullptr;
    const exchange::ArrivingRows arriving{.rows = static_cast<std::byte*>(t.into.x_UD.data),
                                          .row_bytes = t.row_bytes,
                                          .capacity = t.into.x_UD.dim(0),
                                          .records = weights_MK ? static_cast<std::byte*>(b.got_records.data) : nullptr,
                                          .record_bytes = record_bytes,
                                          .record_at = rows.record_at};
    for_lanes([&](int peer, int from, int chunk, std::size_t i) {
      const int channel = channel_of(from, chunk);
      p.forwards[i] = {&rings_.writer(p.way, peer, channel), rows, records, record_bytes,
                       run(plan, round, from, chunk),        peer};
      p.rows[i] = {&rings_.reader(p.way, peer, channel), arriving, first_row(plan, round, from, peer, chunk),
                   count(plan.lanes_received, round, i)};
    });
    rings_.start(p);
    for (int c = 0; c < num_chunks(); ++c) {
      if (weights_MK)  // they were packed: their place is free
        p.crosses.push_back(cross(Way::out, plan, round, c, record_bytes, b.packed_records, b.records));
      p.crosses.push_back(cross(Way::out, plan, round, c, t.row_bytes, b.rows, b.more_rows));
      open(p, node(), c);
    }
    const std::int64_t away = plan.tokens.num_sent_away(round);
    traffic_.routing_bytes += away * record_bytes;
    traffic_.rows_across += away;
    traffic_.bytes_across += away * t.row_bytes;
    node_rings_.turn();
    return t;
  }

  Arrivals finish_dispatch(const Stream& stream, Transit& t) override {
    const Span span(stream.timeline(), Work::dispatch, "dispatch_finish");
    const Route& forwards = t.plan->forwards;
    const std::int64_t away = forwards.num_sent_away(t.round), back = forwards.num_received_from_away(t.round),
                       record_bytes = t.into.weights_UK ? sizes_.record_bytes : 0;
    if (t.into.weights_UK) node_rings_.made(away * record_bytes, back * record_bytes);
    node_rings_.made(away * t.row_bytes, back * t.row_bytes);
    traffic_.routing_bytes += away * record_bytes;
    traffic_.rows_inside += away;
    traffic_.bytes_inside += away * t.row_bytes;
    t.rows.wait();
    return unpacked(stream, t);
  }

  Transit start_combine(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& partial_UD,
                        DispatchBuffers& b) override {
    const Span span(stream.timeline(), Work::combine, "combine_start");
    Transit t = open_combine(plan, round, partial_UD, b);
    const std::int64_t away = plan.forwards.num_received_from_away(round);
    node_rings_.made(away * t.row_bytes, plan.forwards.num_sent_away(round) * t.row_bytes);
    traffic_.rows_inside += away;
    traffic_.bytes_inside += away * t.row_bytes;

    RailTransfer& p = take(exchange::Way::combine, t);
    p.sums = as_rows(t, b.rows, plan.forwards.num_rows(round));
    const auto* const partial = static_cast<const std::byte*>(partial_UD.data);
    const exchange::Tokens rows = forwards_of(t, {});  // where copies come from: no rows are read
    for_lanes([&](int peer, int from, int chunk, std::size_t i) {
      const std::int64_t first = first_row(plan, round, from, peer, chunk);
      const bool mine = peer == place();  // read here
      p.results[i] = {&rings_.writer(p.way, peer, channel_of(from, chunk)), partial, t.row_bytes, first,
                      mine ? 0 : count(plan.lanes_received, round, i)};
      if (mine)
        p.arrived.emplace_back(&rings_.reader(p.way, 0, channel_of(from, chunk)), rings_.num_channels(), rows,
                               run(plan, round, from, chunk), place(), partial, t.row_bytes, first);
    });
    rings_.start(p);
    node_rings_.turn();
    return t;
  }

  void finish_combine(const Stream& stream, Transit& t, const Tensor& y_MD, const Tensor& first_MD,
                      const Tensor& second_MD) override {
    const Span span(stream.timeline(), Work::combine, "combine_finish");
    const DispatchPlan& plan = *t.plan;
    t.rows.wait();
    const std::int64_t away = plan.tokens.num_received_from_away(t.round);
    traffic_.rows_across += away;
    traffic_.bytes_across += away * t.row_bytes;
    sum_copies(stream, plan.tokens.places(t.round), as_rows(t, t.buffers.more_rows, plan.tokens.num_sent(t.round)),
               plan.of_round(y_MD, t.round), plan.of_round(first_MD, t.round), plan.of_round(second_MD, t.round));
  }

 protected:
  void route(const Stream&, DispatchPlan& plan, DispatchBuffers&) override {
    node_rings_.on_the_rail([&] { ask_nodes(plan); });
    if (is_bounded()) hear_inside();  // rounds are chosen from what blocks bring
    choose_rounds(plan);
    lay_out(plan, true);
    exchange_counts(plan);
  }

 private:
  int channel_of(int from_node, int chunk) const { return from_node * num_chunks() + chunk; }
  template <class Visit>
  void for_lanes(const Visit& visit) const {
    for (int i = 0; i < node_size(); ++i)
      for (int n = 0; n < num_nodes(); ++n)
        for (int c = 0; c < num_chunks(); ++c) visit(i, n, c, rings_.lane(i, channel_of(n, c)));
  }
  std::int64_t count(const std::vector<std::int32_t>& counts, int round, std::size_t lane) const {
    return counts[static_cast<std::size_t>(round) * rings_.num_lanes() + lane];
  }
  /// Of the rows that pass through here in a round, those of a node's chunk.
  exchange::TokenRun run(const DispatchPlan& plan, int round, int from, int chunk) const {
    const Chunks got = chunks(plan.tokens.received_from(round));
    const std::int64_t first = got.first(chunk, static_cast<std::size_t>(from));
    return {first, first + got.count(chunk, static_cast<std::size_t>(from))};
  }
  /// Of what arrives in the round, the first row of a source's chunk: rows lie by source rank, then by token.
  std::int64_t first_row(const DispatchPlan& plan, int round, int from, int peer, int chunk) const {
    const std::size_t* const arriving = plan.arriving.data() + static_cast<std::ptrdiff_t>(round) * group_.size();
    std::int64_t first = 0;
    for (int r = 0; r < from * node_size() + peer; ++r) first += static_cast<std::int64_t>(arriving[r]);
    for (int c = 0; c < chunk; ++c) first += count(plan.lanes_received, round, rings_.lane(peer, channel_of(from, c)));
    return first;
  }
  Tensor as_rows(const Transit& t, const Tensor& bytes, std::int64_t n) const {
    return Tensor(bytes.data, t.into.x_UD.dtype, {n, t.into.x_UD.dim(1)}, bytes.device);
  }
  /// The rows that pass through here; the ranks that they go on to take the place of experts.
  exchange::Tokens forwards_of(const Transit& t, const Tensor& rows) const {
    const Route& forwards = t.plan->forwards;
    return {.rows = static_cast<const std::byte*>(rows.data),
            .row_bytes = t.row_bytes,
            .experts_MK = forwards.of_round(forwards.rank_RC, t.round).template as<std::int32_t>(),
            .num_choices = static_cast<int>(sizes_.forward_ranks),
            .experts_each = 1,
            .num_ranks = node_size(),
            .record_at = record_place(options_)};
  }
  /// Rows of a node's chunk are here.
  void open(RailTransfer& p, int from, int chunk) const {
    for (int i = 0; i < node_size(); ++i) p.forwards[rings_.lane(i, channel_of(from, chunk))].open();
  }

  RailTransfer& take(exchange::Way way, Transit& t) {
    RailTransfer& p = node_rings_.take(way, t);
    t.rows = Request([this, &p] { finish(p); }, [this] { give_up(); });
    return p;
  }
  void give_up() { group_.cancel("a rank stopped in the midst of a dispatch"); }

  void finish(RailTransfer& p) {
    try {
      if (p.way == exchange::Way::dispatch)
        wait_for_chunks(p);
      else
        send_home(p);
      node_rings_.wait_until(p, [&] { return p.all_sent() && p.all_received(); });
      rings_.end(p);
      node_rings_.on_the_rail([&] {
        for (Request& r : p.crosses) r.wait();
      });
    } catch (...) {  // memory that others write to may go
      give_up();
      p.crosses.clear();
      throw;
    }
    p.in_use = false;
  }
  /// Passes chunks on as they come, of this transfer and those that were started before: a ring carries them in order.
  void wait_for_chunks(const RailTransfer& last) {
    while (std::find(arriving_.begin(), arriving_.end(), &last) != arriving_.end()) {
      RailTransfer& p = *arriving_.front();
      const std::size_t each = p.crosses.size() / static_cast<std::size_t>(num_chunks());
      for (int c = 0; c < num_chunks(); ++c) {
        node_rings_.on_the_rail([&] {
          for (std::size_t i = 0; i < each; ++i) p.crosses[static_cast<std::size_t>(c) * each + i].wait();
        });
        for (int n = 0; n < num_nodes(); ++n) open(p, n, c);
        node_rings_.turn();
      }
      arriving_.erase(arriving_.begin());
    }
  }
  /// Sends a chunk's sums home when they are made.
  void send_home(RailTransfer& p) {
    for (int c = 0; c < num_chunks(); ++c) {
      node_rings_.wait_until(p, [&] {
        bool made = true;
        for (int n = 0; n < num_nodes(); ++n) made &= p.received[static_cast<std::size_t>(channel_of(n, c))] != 0;
        return made;
      });
      p.crosses.push_back(cross(Way::home, *p.plan, p.round, c, p.row_bytes, p.buffers.rows, p.buffers.more_rows));
    }
  }

  /// How many rows go on to each rank of this node, and come from it.
  void exchange_counts(DispatchPlan& plan) {
    const auto slot = [&](int q, std::size_t lane) { return static_cast<std::size_t>(q) * rings_.num_lanes() + lane; };
    plan.lanes_sent.assign(slot(plan.num_rounds(), 0), 0);
    plan.lanes_received.assign(plan.lanes_sent.size(), 0);
    const std::int64_t C = sizes_.forward_ranks;
    for (int q = 0; q < plan.num_rounds(); ++q) {
      const auto* ranks = plan.forwards.of_round(plan.forwards.rank_RC, q).template as<std::int32_t>();
      for (int n = 0; n < num_nodes(); ++n)
        for (int c = 0; c < num_chunks(); ++c) {
          const exchange::TokenRun r = run(plan, q, n, c);
          for (std::int64_t i = r.begin * C; i < r.end * C; ++i)
            if (i % C == 0 || ranks[i] != ranks[i - 1])
              ++plan.lanes_sent[slot(q, rings_.lane(ranks[i], channel_of(n, c)))];
        }
    }
    traffic_.routing_bytes += node_rings_.exchange_counts(plan.num_rounds(), plan.lanes_sent, plan.lanes_received);
    for (int q = 0; q < plan.num_rounds(); ++q)
      for_lanes([&](int peer, int from, int, std::size_t lane) {
        const auto at = static_cast<std::size_t>(q * node_size() + peer);
        const auto sent = static_cast<std::size_t>(plan.lanes_sent[slot(q, lane)]),
                   got = static_cast<std::size_t>(plan.lanes_received[slot(q, lane)]);
        plan.forwards.sent[at] += sent, plan.forwards.received[at] += got;
        plan.arriving[static_cast<std::size_t>(q * group_.size() + from * node_size() + peer)] += got;
      });
  }

  RailRings<Agent> node_rings_;
  PeerRings<Agent>& rings_;
  std::vector<RailTransfer*> arriving_;  // dispatches whose chunks were not waited for yet, the oldest first
};

}  // namespace fourmi
