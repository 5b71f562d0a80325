// Dispatch by writing into peers' memory (kernels/exchange): rows go straight into rings of the ranks that hold their
// experts, and sums are made from the rings that results come back in. No collective is called, and no barrier is
// waited for: each row goes when there is room for it. Counts are announced by a word each.
//
// Here the agents are the ranks' own threads (of one process): the protocol is that of the GPUs' kernels, to the line.
#pragma once

#include "kernels/exchange/counts.h"
#include "parallel/dispatch/device_window.h"
#include "parallel/dispatch/dispatcher.h"
#include "parallel/dispatch/exchange.h"
#include "parallel/dispatch/peer_rings.h"
#include "parallel/dispatch/peer_wait.h"
#include "parallel/dispatch/peer_windows.h"

namespace fourmi {

template <class Agent>
class DeviceDispatcher final : public Dispatcher {
 public:
  DeviceDispatcher(Group& group, const DispatchOptions& options, const Tensor& window, Agent agent)
      : Dispatcher(DispatchMethod::device, group, options, num_kinds),
        windows_(group, device_window(group.size(), options), window),
        rings_(windows_.peers(), std::move(agent)),
        sent_(static_cast<std::size_t>(group.size() * num_blocks())),
        received_(sent_.size()) {}

  Transit start_dispatch(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& x_MD,
                         const Tensor& weights_MK, const Arrivals& into, DispatchBuffers& b) override {
    const Span span(stream.timeline(), Work::dispatch, "dispatch_start");
    Transit t = open_dispatch(plan, round, x_MD, weights_MK, into, b);
    const std::int64_t away = plan.tokens.num_sent_away(round), back = plan.tokens.num_received_from_away(round);
    if (weights_MK) made(away * sizes_.record_bytes, back * sizes_.record_bytes);
    made(away * t.row_bytes, back * t.row_bytes);
    traffic_.routing_bytes += weights_MK ? away * sizes_.record_bytes : 0;
    traffic_.rows_across += away;
    traffic_.bytes_across += away * t.row_bytes;

    PeerTransfer& p = take(exchange::Way::dispatch, t);
    const exchange::Tokens tokens = tokens_of(plan, x_MD, t.row_bytes, weights_MK);
    const exchange::ArrivingRows arriving{.rows = static_cast<std::byte*>(t.into.x_UD.data),
                                          .row_bytes = t.row_bytes,
                                          .capacity = t.into.x_UD.dim(0),
                                          .records = weights_MK ? static_cast<std::byte*>(b.got_records.data) : nullptr,
                                          .record_bytes = sizes_.record_bytes,
                                          .record_at = tokens.record_at};
    for_lanes([&](int rank, int channel, std::size_t i) {
      p.tokens[i] = {&rings_.writer(p.way, rank, channel), tokens, run(plan, round, channel), rank};
      p.rows[i] = {&rings_.reader(p.way, rank, channel), arriving, first_row(plan, round, rank, channel),
                   count(plan.lanes_received, round, i)};
    });
    rings_.start(p);
    turn();
    return t;
  }

  Arrivals finish_dispatch(const Stream& stream, Transit& t) override {
    const Span span(stream.timeline(), Work::dispatch, "dispatch_finish");
    t.rows.wait();
    return unpacked(stream, t);
  }

  Transit start_combine(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& partial_UD,
                        DispatchBuffers& b) override {
    const Span span(stream.timeline(), Work::combine, "combine_start");
    Transit t = open_combine(plan, round, partial_UD, b);
    const std::int64_t away = plan.tokens.num_received_from_away(round);
    made(away * t.row_bytes, plan.tokens.num_sent_away(round) * t.row_bytes);
    traffic_.rows_across += away;
    traffic_.bytes_across += away * t.row_bytes;

    PeerTransfer& p = take(exchange::Way::combine, t);
    for_lanes([&](int rank, int channel, std::size_t i) {
      const std::int64_t n = rank == group_.rank() ? 0 : count(plan.lanes_received, round, i);  // mine are read here
      p.results[i] = {&rings_.writer(p.way, rank, channel), static_cast<const std::byte*>(partial_UD.data), t.row_bytes,
                      first_row(plan, round, rank, channel), n};
    });
    rings_.start(p);
    turn();
    return t;
  }

  void finish_combine(const Stream& stream, Transit& t, const Tensor& y_MD, const Tensor& first_MD,
                      const Tensor& second_MD) override {
    const Span span(stream.timeline(), Work::combine, "combine_finish");
    const DispatchPlan& plan = *t.plan;
    PeerTransfer& p = *t.peer;
    combined_ = {y_MD, first_MD, second_MD};
    const exchange::Tokens tokens = tokens_of(plan, {}, 0, {});  // where copies come from: no rows are read
    const int me = group_.rank();
    for (int c = 0; c < rings_.num_channels(); ++c)
      p.arrived.emplace_back(&rings_.reader(p.way, 0, c), rings_.num_channels(), tokens, run(plan, t.round, c), me,
                             static_cast<const std::byte*>(t.into.x_UD.data), t.row_bytes,
                             first_row(plan, t.round, me, c));
    t.rows.wait();
  }

 protected:
  void route(const Stream&, DispatchPlan& plan, DispatchBuffers&) override {
    Route& tokens = plan.tokens;
    tokens.size = group_.size(), tokens.rank = group_.rank();
    std::fill(sent_.begin(), sent_.end(), 0);
    const std::int64_t M = plan.experts_MK.dim(0), B = num_blocks();
    for_destinations(plan, 0, M, [&](std::int64_t t, int rank) {
      ++sent_[static_cast<std::size_t>(rank * B + block_of(t))];
      ++loads_.load(sending, block_of(t));
    });
    if (is_bounded()) {  // rounds are chosen from what blocks bring
      exchange_lists(group_, sent_, received_);
      traffic_.routing_bytes += (group_.size() - 1) * B * size_of(DType::i64);
      for (std::size_t i = 0; i < received_.size(); ++i)
        loads_.load(receiving, static_cast<std::int64_t>(i) % B) += received_[i];
    }
    choose_rounds(plan);
    tokens.reset(plan.num_rounds());
    tokens.row_begin = plan.token_begin;
    announce_counts(plan);
    plan.arriving = tokens.received;
  }

 private:
  enum Kind : int { sending, receiving, num_kinds };
  struct Owned : PeerTransfer {
    bool in_use = false;
  };

  /// Tells all ranks how many rows come in each round and channel, and hears the same from them.
  void announce_counts(DispatchPlan& plan) {
    ++announcement_;
    const int P = group_.size(), C = rings_.num_channels();
    const auto lanes = static_cast<std::int64_t>(rings_.num_lanes());
    plan.lanes_sent.assign(static_cast<std::size_t>(plan.num_rounds() * lanes), 0);
    plan.lanes_received.assign(plan.lanes_sent.size(), 0);
    std::int64_t most = 0;
    for (int q = 0; q < plan.num_rounds(); ++q)
      for (int c = 0; c < C; ++c) {
        const exchange::TokenRun r = run(plan, q, c);
        std::int64_t token = -1, n = 0;
        for_destinations(plan, r.begin, r.end, [&](std::int64_t t, int rank) {
          ++plan.lanes_sent[static_cast<std::size_t>(q * lanes) + rings_.lane(rank, c)];
          n = t == token ? n + 1 : 1, token = t;
          most = std::max(most, n);
        });
      }
    load_.most_destinations = std::max(load_.most_destinations, most);
    const auto of_pair = [&](std::vector<std::int32_t>& counts, int q, int rank, int c) -> std::int32_t& {
      return counts[static_cast<std::size_t>(q * lanes) + rings_.lane(rank, c)];
    };
    for (int r = 0; r < P; ++r)
      for (int q = 0; q < plan.num_rounds(); ++q)
        for (int c = 0; c < C; ++c)
          exchange::announce(rings_.agent(), rings_.peers(), announcement_, r, q * C + c,
                             static_cast<std::uint32_t>(of_pair(plan.lanes_sent, q, r, c)));
    const std::int64_t bytes = (P - 1) * std::int64_t{plan.num_rounds()} * C * size_of(DType::i64);
    made(bytes, bytes);
    traffic_.routing_bytes += bytes;
    for (int r = 0; r < P; ++r)
      for (int q = 0; q < plan.num_rounds(); ++q)
        for (int c = 0; c < C; ++c) {
          std::int64_t n = -1;
          wait_until(
              [&] { return (n = exchange::heard(rings_.agent(), rings_.peers(), announcement_, r, q * C + c)) >= 0; },
              [&] { return r; });
          of_pair(plan.lanes_received, q, r, c) = static_cast<std::int32_t>(n);
          const auto at = static_cast<std::size_t>(q * P + r);
          plan.tokens.received[at] += static_cast<std::size_t>(n);
          plan.tokens.sent[at] += static_cast<std::size_t>(of_pair(plan.lanes_sent, q, r, c));
        }
  }

  /// visit(token, rank), ranks ascending and once, of tokens [begin, end).
  template <class Visit>
  void for_destinations(const DispatchPlan& plan, std::int64_t begin, std::int64_t end, const Visit& visit) const {
    const std::int64_t K = options_.num_choices;
    const auto* experts = plan.experts_MK.as<std::int32_t>();
    for (std::int64_t t = begin; t < end; ++t)
      for (std::int64_t k = 0, before = -1; k < K; ++k) {
        const auto rank = static_cast<int>(experts[t * K + k] / num_local());
        if (rank != before) visit(t, rank);
        before = rank;
      }
  }
  template <class Visit>
  void for_lanes(const Visit& visit) const {
    for (int r = 0; r < rings_.num_ranks(); ++r)
      for (int c = 0; c < rings_.num_channels(); ++c) visit(r, c, rings_.lane(r, c));
  }

  exchange::Tokens tokens_of(const DispatchPlan& plan, const Tensor& rows, std::int64_t row_bytes,
                             const Tensor& weights_MK) const {
    return {.rows = static_cast<const std::byte*>(rows.data),
            .row_bytes = row_bytes,
            .experts_MK = plan.experts_MK.as<std::int32_t>(),
            .weights_MK = weights_MK ? static_cast<const std::byte*>(weights_MK.data) : nullptr,
            .weight_bytes = size_of(options_.weights),
            .num_choices = static_cast<int>(options_.num_choices),
            .experts_each = static_cast<int>(num_local()),
            .num_ranks = group_.size(),
            .record_at = record_place(options_)};
  }
  exchange::TokenRun run(const DispatchPlan& plan, int round, int channel) const {
    return exchange::run_of(channel, rings_.num_channels(), plan.begin(round), plan.end(round) - plan.begin(round));
  }
  std::int64_t count(const std::vector<std::int32_t>& counts, int round, std::size_t lane) const {
    return counts[static_cast<std::size_t>(round) * rings_.num_lanes() + lane];
  }
  /// Of what arrives in the round, the first row of a rank and channel: rows lie by rank, then by token.
  std::int64_t first_row(const DispatchPlan& plan, int round, int rank, int channel) const {
    std::int64_t first = 0;
    for (std::size_t i = 0; i < rings_.lane(rank, channel); ++i) first += count(plan.lanes_received, round, i);
    return first;
  }

  /// A transfer with all of its lanes to do; `request` ends it.
  PeerTransfer& take(exchange::Way way, Transit& t) {
    auto free = std::find_if(transfers_.begin(), transfers_.end(), [](const auto& p) { return !p->in_use; });
    if (free == transfers_.end()) {
      transfers_.push_back(std::make_unique<Owned>());
      free = transfers_.end() - 1;
    }
    Owned& p = **free;
    const std::size_t lanes = rings_.num_lanes();
    p.in_use = true, p.way = way;
    p.arrived.clear();
    p.arrived.reserve(static_cast<std::size_t>(rings_.num_channels()));
    if (way == exchange::Way::dispatch)
      p.tokens.resize(lanes), p.rows.resize(lanes);
    else
      p.results.resize(lanes);
    p.sent.assign(lanes, 0);
    p.received.assign(way == exchange::Way::dispatch ? lanes : static_cast<std::size_t>(rings_.num_channels()), 0);
    t.peer = &p;
    t.rows = Request([this, &p] { finish(p); }, [this] { group_.cancel("a rank stopped in the midst of a dispatch"); });
    return p;
  }

  void finish(Owned& p) {
    wait_until([&] { return p.all_sent() && p.all_received(); }, [&] { return waits_for(p); });
    rings_.end(p);
    p.in_use = false;
  }
  /// The first rank that a transfer is stuck for.
  int waits_for(const PeerTransfer& p) const {
    const int C = rings_.num_channels();
    for (std::size_t i = 0; i < p.received.size(); ++i)
      if (!p.received[i]) return p.way == exchange::Way::dispatch ? static_cast<int>(i) / C : p.arrived[i].waits_for();
    for (std::size_t i = 0; i < p.sent.size(); ++i)
      if (!p.sent[i]) return static_cast<int>(i) / C;
    return -1;
  }
  bool turn() {
    return rings_.turn([this](const PeerTransfer&) {
      return [this](Agent&, std::int64_t token, const std::byte* const* copies, const std::int32_t* ranks, int n) {
        sum_copies_of_token({copies, ranks, n, group_.size()}, token, combined_.y, combined_.first, combined_.second);
      };
    });
  }
  /// Turns over all that is under way until `done()`. Throws where a peer was lost, or lets nothing come for too long.
  template <class Done, class Peer>
  void wait_until(const Done& done, const Peer& peer) {
    wait_for_peers(
        group_, options_.patience, [this] { return turn(); }, done,
        [&](std::chrono::milliseconds waited) {
          return fmt::format("rank {} of {} has let nothing come or go for {} ms", peer(), group_.name(),
                             waited.count());
        });
  }
  /// What goes past the group is a call of it all the same.
  void made(std::int64_t sent, std::int64_t received) { group_.made(Call::all_to_all, sent, received); }

  PeerWindows windows_;
  PeerRings<Agent> rings_;
  std::vector<std::unique_ptr<Owned>> transfers_;
  struct {
    Tensor y, first, second;
  } combined_;
  std::vector<std::int64_t> sent_, received_;  // [ranks][blocks] rows
  std::uint64_t announcement_ = 0;
};

}  // namespace fourmi
