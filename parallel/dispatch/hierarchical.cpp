// Two hops. With s ranks a node, rank n s + i sends a token once to each node m that needs it, to rank m s + i; that
// rank passes it on to the ranks of its node that hold its experts. The way back sums inside the node first, so that
// one row a node crosses.
#include <algorithm>
#include <bit>

#include "kernels/runtime/copy_rows.h"
#include "parallel/dispatch/exchange.h"
#include "parallel/dispatch/methods.h"

namespace fourmi {
namespace {

// What passes through a rank is no more than what it spreads: each row goes on to one rank at least.
enum Kind : int { sending, spreading, receiving, num_kinds };

/// Rows [first, first + n) as bytes.
Tensor some(const Tensor& rows, std::int64_t first, std::int64_t n, std::int64_t row_bytes) {
  return Tensor(static_cast<std::byte*>(rows.data) + first * row_bytes, DType::u8, {n * row_bytes}, rows.device);
}

class Hierarchical final : public Dispatcher {
 public:
  Hierarchical(Group& group, const DispatchOptions& options)
      : Dispatcher(DispatchMethod::hierarchical, group, options, num_kinds),
        node_size_(options.node_size),
        num_nodes_(group.size() / options.node_size),
        place_(group.rank() % options.node_size) {
    std::vector<int> ranks;
    for (int n = 0; n < num_nodes_; ++n) ranks.push_back(n * node_size_ + place_);
    across_ = group.subgroup(group.name() + ".across", ranks);
    ranks.clear();
    for (int i = 0; i < node_size_; ++i) ranks.push_back(group.rank() - place_ + i);
    inside_ = group.subgroup(group.name() + ".inside", ranks);

    const auto B = static_cast<std::size_t>(num_blocks()), nodes = static_cast<std::size_t>(num_nodes_);
    across_sent_.resize(nodes * B);
    across_received_.resize(nodes * B);
    inside_sent_.resize(static_cast<std::size_t>(node_size_) * nodes * B);
    inside_received_.resize(inside_sent_.size());
    next_.resize(nodes);
    masks_.resize(static_cast<std::size_t>(sizes_.max_tokens * sizes_.token_ranks));
    got_masks_.resize(static_cast<std::size_t>(sizes_.max_forwards));
  }

  Transit start_dispatch(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& x_MD,
                         const Tensor& weights_MK, const Arrivals& into, DispatchBuffers& b) override {
    const Span span(stream.timeline(), Work::dispatch, "dispatch_start");
    Transit t = open_dispatch(plan, round, x_MD, weights_MK, into, b);
    const std::int64_t away = plan.tokens.num_sent_away(round);
    if (weights_MK) {
      pack_records(stream, plan.of_round(plan.experts_MK, round), plan.of_round(weights_MK, round),
                   bytes_of(b.records));
      t.records = start_scatter(stream, *across_, plan.tokens, round, b.records, sizes_.record_bytes, b.packed_records,
                                b.got_records);
      traffic_.routing_bytes += away * sizes_.record_bytes;
    }
    t.rows = start_scatter(stream, *across_, plan.tokens, round, plan.of_round(x_MD, round), t.row_bytes, b.rows,
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
      t.records = start_scatter(stream, *inside_, plan.forwards, t.round, b.got_records, sizes_.record_bytes,
                                b.packed_records, b.records);
      traffic_.routing_bytes += away * sizes_.record_bytes;
    }
    t.rows.wait();
    // Each hop's rows are packed elsewhere before the next ones arrive in their place.
    t.rows = start_scatter(stream, *inside_, plan.forwards, t.round, b.more_rows, t.row_bytes, b.rows, b.more_rows);
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
    t.rows = start_gather(*inside_, plan.forwards, round, b.rows, t.row_bytes, b.more_rows);
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
    t.rows = start_gather(*across_, plan.tokens, t.round, b.rows, t.row_bytes, b.more_rows);
    const std::int64_t away = plan.tokens.num_received_from_away(t.round);
    traffic_.rows_across += away;
    traffic_.bytes_across += away * t.row_bytes;
    t.rows.wait();
    sum_copies(stream, plan.tokens.places(t.round), as_rows(b.more_rows, plan.tokens.num_sent(t.round)),
               plan.of_round(y_MD, t.round), plan.of_round(first_MD, t.round), plan.of_round(second_MD, t.round));
  }

 protected:
  void route(const Stream&, DispatchPlan& plan, DispatchBuffers&) override {
    plan.tokens.size = num_nodes_, plan.tokens.rank = group_.rank() / node_size_;
    plan.forwards.size = node_size_, plan.forwards.rank = place_;
    const std::int64_t most = list_destinations(plan.experts_MK, num_local() * node_size_, plan.tokens);
    load_.most_destinations = std::max(load_.most_destinations, most);
    exchange_masks(plan);
    count_inside();

    choose_rounds(plan);
    plan.tokens.reset(plan.num_rounds());
    plan.tokens.row_begin = plan.token_begin;
    plan.tokens.place_copies();
    plan.forwards.reset(plan.num_rounds());
    for (int q = 0; q < plan.num_rounds(); ++q) set_received(plan, q);
    list_forwards(plan);
    plan.forwards.place_copies();
  }

 private:
  std::size_t node(int n) const { return static_cast<std::size_t>(n); }
  std::int64_t bit_ranks(std::uint64_t mask, std::int32_t* ranks) const {
    std::int64_t n = 0;
    for (; mask != 0; mask &= mask - 1) ranks[n++] = std::countr_zero(mask);
    return n;
  }

  /// Tells each node, for each of my tokens that go there, which of its ranks need it.
  void exchange_masks(DispatchPlan& plan) {
    const std::int64_t M = plan.experts_MK.dim(0), K = plan.experts_MK.dim(1), C = sizes_.token_ranks, B = num_blocks();
    const auto* ranks = plan.tokens.rank_RC.as<std::int32_t>();
    const auto* experts = plan.experts_MK.as<std::int32_t>();
    std::fill(across_sent_.begin(), across_sent_.end(), 0);
    for (std::int64_t i = 0; i < M * C; ++i)
      if (ranks[i] >= 0) {
        ++across_sent_[static_cast<std::size_t>(ranks[i] * B + block_of(i / C))];
        ++loads_.load(sending, block_of(i / C));
      }
    exchange_lists(*across_, across_sent_, across_received_);
    traffic_.routing_bytes += (num_nodes_ - 1) * B * size_of(DType::i64);

    const std::span send = across_->counts(0), receive = across_->counts(1);
    std::size_t all_sent = 0, all_received = 0;
    for (std::size_t n = 0; n < next_.size(); ++n) {
      next_[n] = static_cast<std::int64_t>(all_sent);
      send[n] = receive[n] = 0;
      for (std::size_t k = 0; k < static_cast<std::size_t>(B); ++k) {
        send[n] += static_cast<std::size_t>(across_sent_[n * static_cast<std::size_t>(B) + k]);
        receive[n] += static_cast<std::size_t>(across_received_[n * static_cast<std::size_t>(B) + k]);
      }
      all_sent += send[n], all_received += receive[n];
      if (n != static_cast<std::size_t>(plan.tokens.rank))
        traffic_.routing_bytes += static_cast<std::int64_t>(send[n]) * size_of(DType::i64);
      send[n] *= sizeof(std::int64_t), receive[n] *= sizeof(std::int64_t);
    }
    auto* masks = masks_.data();
    for (std::int64_t t = 0; t < M; ++t)
      for (std::int64_t k = 0; k < K;) {
        const std::int64_t to = experts[t * K + k] / (num_local() * node_size_);
        std::uint64_t mask = 0;
        for (; k < K && experts[t * K + k] / (num_local() * node_size_) == to; ++k)
          mask |= std::uint64_t{1} << (experts[t * K + k] / num_local() % node_size_);
        masks[next_[static_cast<std::size_t>(to)]++] = mask;
      }
    across_->all_to_all({std::as_bytes(std::span(masks_)).data(), all_sent * sizeof(std::int64_t)}, send,
                        {std::as_writable_bytes(std::span(got_masks_)).data(), all_received * sizeof(std::int64_t)},
                        receive);
  }

  /// Counts, by source node and block, what goes on to each rank of my node, and hears what comes to me.
  void count_inside() {
    const std::int64_t B = num_blocks();
    const std::uint64_t* masks = got_masks_.data();
    std::fill(inside_sent_.begin(), inside_sent_.end(), 0);
    for (std::int64_t list = 0; list < num_nodes_ * B; ++list) {
      const std::int64_t block = list % B, rows = across_received_[static_cast<std::size_t>(list)];
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::uint64_t mask = *masks++; mask != 0; mask &= mask - 1) {
          ++inside_sent_[static_cast<std::size_t>(std::countr_zero(mask) * num_nodes_ * B + list)];
          ++loads_.load(spreading, block);
        }
    }
    exchange_lists(*inside_, inside_sent_, inside_received_);
    traffic_.routing_bytes += (node_size_ - 1) * num_nodes_ * B * size_of(DType::i64);
    for (std::size_t i = 0; i < inside_received_.size(); ++i)
      loads_.load(receiving, static_cast<std::int64_t>(i) % B) += inside_received_[i];
  }

  void set_received(DispatchPlan& plan, int q) const {
    const auto round = static_cast<std::size_t>(q), nodes = node(num_nodes_), places = node(node_size_);
    std::int64_t rows = 0;
    for (std::size_t n = 0; n < nodes; ++n) {
      const std::size_t got = in_round(across_received_, n, q);
      plan.tokens.received[round * nodes + n] = got;
      rows += static_cast<std::int64_t>(got);
      for (std::size_t i = 0; i < places; ++i) {
        const std::size_t arriving = in_round(inside_received_, i * nodes + n, q);
        plan.forwards.received[round * places + i] += arriving;
        plan.arriving[round * nodes * places + n * places + i] = arriving;
      }
    }
    plan.forwards.row_begin[round + 1] = plan.forwards.row_begin[round] + rows;
  }

  /// The rows that pass through here, round by round as they will arrive: by node, then by token.
  void list_forwards(DispatchPlan& plan) {
    const std::uint64_t* masks = got_masks_.data();
    const std::int64_t C = sizes_.forward_ranks;
    std::int64_t before = 0;
    for (std::size_t n = 0; n < next_.size(); ++n) {  // where each node's masks go on
      next_[n] = before;
      for (int q = 0; q < plan.num_rounds(); ++q) before += static_cast<std::int64_t>(in_round(across_received_, n, q));
    }
    auto* ranks = plan.forwards.rank_RC.as<std::int32_t>();
    for (int q = 0; q < plan.num_rounds(); ++q)
      for (std::size_t n = 0; n < next_.size(); ++n)
        for (std::size_t i = in_round(across_received_, n, q); i > 0; --i, ranks += C)
          std::fill(ranks + bit_ranks(masks[next_[n]++], ranks), ranks + C, -1);
  }

  /// Calls visit(by_peer, by_source, n): rows come from peers of the node, each with the rows of all nodes; arrivals
  /// are ordered by source rank. Runs of n rows lie at these places in the two orders.
  template <class Visit>
  void for_each_run(const DispatchPlan& plan, int round, const Visit& visit) const {
    const auto nodes = node(num_nodes_), places = node(node_size_);
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

  int node_size_, num_nodes_, place_;  // place_: of this rank in its node
  std::unique_ptr<Group> across_, inside_;
  std::vector<std::int64_t> across_sent_, across_received_;  // [nodes][blocks] rows
  std::vector<std::int64_t> inside_sent_, inside_received_;  // [ranks of the node][nodes][blocks] rows
  std::vector<std::int64_t> next_;                           // [nodes]
  std::vector<std::uint64_t> masks_, got_masks_;  // of copies sent and received: which ranks of a node want it
};

}  // namespace

std::unique_ptr<Dispatcher> make_hierarchical(Group& group, const DispatchOptions& options) {
  return std::make_unique<Hierarchical>(group, options);
}

}  // namespace fourmi
