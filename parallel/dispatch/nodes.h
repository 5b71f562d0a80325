// What dispatchers that know nodes have in common. With s ranks a node, rank n s + i sends a token once to each node m
// that needs it, to rank m s + i (the rail i); that rank passes it on to the ranks of its node that hold its experts.
// The way back sums inside the node first, so that one row a node crosses.
//
// Rows between two nodes may travel in several chunks: each pair's rows of a round, cut into as many runs. What crosses
// lies by chunk, then by node, then by token, on both sides.
#pragma once

#include "kernels/exchange/lanes.h"
#include "parallel/dispatch/dispatcher.h"
#include "parallel/dispatch/exchange.h"

namespace fourmi {

/// Where the chunks of what a rank sends to each node (or gets from there) lie.
struct Chunks {
  std::span<const std::size_t> rows;  ///< [nodes], of a round
  int num_chunks = 1;

  std::int64_t count(int chunk, std::size_t node) const {
    const exchange::TokenRun run = exchange::run_of(chunk, num_chunks, 0, static_cast<std::int64_t>(rows[node]));
    return run.end - run.begin;
  }
  std::int64_t total(int chunk) const {
    std::int64_t sum = 0;
    for (std::size_t n = 0; n < rows.size(); ++n) sum += count(chunk, n);
    return sum;
  }
  std::int64_t first(int chunk, std::size_t node = 0) const {
    std::int64_t before = 0;
    for (int c = 0; c < chunk; ++c) before += total(c);
    for (std::size_t n = 0; n < node; ++n) before += count(chunk, n);
    return before;
  }
};

class NodeDispatcher : public Dispatcher {
 protected:
  // What passes through a rank is no more than what it spreads: each row goes on to one rank at least.
  enum Kind : int { sending, spreading, receiving, num_kinds };

  NodeDispatcher(DispatchMethod method, Group& group, const DispatchOptions& options, int num_chunks);

  Group& across() { return *across_; }  ///< the ranks with this one's place, by node
  Group& inside() { return *inside_; }  ///< those of this node, by place
  int node_size() const { return node_size_; }
  int num_nodes() const { return num_nodes_; }
  int node() const { return node_; }    ///< of this rank
  int place() const { return place_; }  ///< of this rank in its node
  int num_chunks() const { return num_chunks_; }
  Chunks chunks(std::span<const std::size_t> rows) const { return {rows, num_chunks_}; }

  // The steps of route(). All are collective but the last.
  /// Which nodes my tokens go to, and which ranks of my node want the tokens that come to me; counts their loads.
  void ask_nodes(DispatchPlan&);
  /// How many rows come from each rank of my node, by source node and block; counts their loads.
  void hear_inside();
  std::size_t heard_inside(int place, int node, int round) const {
    return in_round(inside_received_, static_cast<std::size_t>(place * num_nodes_ + node), round);
  }
  /// When rounds are chosen: where the copies lie that cross to nodes, and which ranks of my node the rows go on to
  /// that come to me, as they will lie here. Behind the last of a row's ranks are -1, or (`repeat`) that rank again.
  void lay_out(DispatchPlan&, bool repeat);

  enum class Way : std::uint8_t { out, home };
  /// Starts a chunk of a round's way: out to the nodes of its tokens, or home to where its rows came from. `from` and
  /// `to` hold all chunks, rows of row_bytes. Collective over across().
  Request cross(Way, const DispatchPlan&, int round, int chunk, std::int64_t row_bytes, const Tensor& from,
                const Tensor& to);

 private:
  void exchange_masks(DispatchPlan&);
  void count_masks();
  void place_chunks(Route& tokens);
  void list_forwards(DispatchPlan&, bool repeat);

  int node_size_, num_nodes_, node_, place_, num_chunks_;
  std::unique_ptr<Group> across_, inside_;
  std::vector<std::int64_t> across_sent_, across_received_;  // [nodes][blocks] rows
  std::vector<std::int64_t> inside_sent_, inside_received_;  // [ranks of the node][nodes][blocks] rows
  std::vector<std::int64_t> next_;                           // [nodes]
  std::vector<std::uint64_t> masks_, got_masks_;  // of copies sent and received: which ranks of a node want it
};

}  // namespace fourmi
