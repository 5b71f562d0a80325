// What goes on inside a node between the ranks of a rail dispatcher (rail.h): rings, counts, waits, and transfers that
// are under way. Each source node and chunk has a channel of its own.
#pragma once

#include <algorithm>
#include <memory>
#include <string>

#include "kernels/exchange/counts.h"
#include "kernels/ops/dispatch_rows.h"
#include "parallel/dispatch/nodes.h"
#include "parallel/dispatch/peer_rings.h"
#include "parallel/dispatch/peer_wait.h"
#include "parallel/dispatch/peer_windows.h"
#include "parallel/dispatch/rail_word.h"

namespace fourmi {

struct RailTransfer : PeerTransfer {
  bool in_use = false;
  const DispatchPlan* plan = nullptr;
  int round = 0;
  std::int64_t row_bytes = 0;
  DispatchBuffers buffers;
  Tensor sums;                   ///< combine: of the rows that passed through here
  std::vector<Request> crosses;  ///< dispatch: a chunk's records and rows one after the other; combine: its sums
};

template <class Agent>
class RailRings {
 public:
  /// `whole`: the group of all nodes, of which `inside` is node `node`. Collective over `inside`.
  RailRings(Group& whole, Group& inside, int node, const exchange::Window& window, const Tensor& memory, Agent agent,
            std::chrono::milliseconds patience)
      : whole_(whole),
        inside_(inside),
        node_(node),
        patience_(patience),
        windows_(inside, window, memory),
        rings_(windows_.peers(), std::move(agent)),
        words_(windows_.peers()) {}

  PeerRings<Agent>& rings() { return rings_; }

  /// A transfer with memory for all of its lanes, to be filled and started.
  RailTransfer& take(exchange::Way way, Transit& t) {
    auto free = std::find_if(transfers_.begin(), transfers_.end(), [](const auto& p) { return !p->in_use; });
    if (free == transfers_.end()) {
      transfers_.push_back(std::make_unique<RailTransfer>());
      free = transfers_.end() - 1;
    }
    RailTransfer& p = **free;
    const std::size_t lanes = rings_.num_lanes(), channels = static_cast<std::size_t>(rings_.num_channels());
    p.in_use = true, p.way = way;
    p.plan = t.plan, p.round = t.round, p.row_bytes = t.row_bytes, p.buffers = t.buffers;
    p.arrived.clear(), p.crosses.clear();
    p.arrived.reserve(channels), p.crosses.reserve(2 * channels);
    const bool out = way == exchange::Way::dispatch;
    if (out)
      p.forwards.resize(lanes), p.rows.resize(lanes);
    else
      p.results.resize(lanes);
    p.sent.assign(lanes, 0);
    p.received.assign(out ? lanes : channels, 0);
    t.peer = &p;
    return p;
  }

  bool turn() {
    return rings_.turn([this](const PeerTransfer& t) {
      const Tensor& sums = static_cast<const RailTransfer&>(t).sums;
      return [this, &sums](Agent&, std::int64_t row, const std::byte* const* copies, const std::int32_t* ranks, int n) {
        sum_copies_of_token({copies, ranks, n, inside_.size()}, row, sums, {}, {});
      };
    });
  }
  /// Turns over all that is under way until `done()`. Throws where a peer was lost, or lets nothing come for too long;
  /// peer() says which one of the node.
  template <class Done, class Peer>
  void wait_until(const Done& done, const Peer& peer) {
    wait_for_peers(
        whole_, patience_, [this] { return turn() || words_.changed(rings_.agent()); }, done,
        [&](std::chrono::milliseconds waited) { return blame(peer(), waited); });
  }
  template <class Done>
  void wait_until(const RailTransfer& p, const Done& done) {
    wait_until(done, [&] { return waits_for(p); });
  }
  /// While a rank waits for other nodes, those of its own know: it is not to blame that nothing comes from it.
  template <class Wait>
  void on_the_rail(const Wait& wait) {
    words_.tell(rings_.agent());
    wait();
    words_.tell(rings_.agent());
  }

  /// Tells the ranks of this node a list of counts each ([rounds][ranks][channels]), and hears theirs. Returns the
  /// bytes that leave.
  std::int64_t exchange_counts(int num_rounds, const std::vector<std::int32_t>& sent,
                               std::vector<std::int32_t>& received) {
    ++announcement_;
    const int P = inside_.size(), C = rings_.num_channels();
    const auto slot = [&](int q, int rank, int c) {
      return static_cast<std::size_t>(q) * rings_.num_lanes() + rings_.lane(rank, c);
    };
    const auto for_all = [&](const auto& visit) {
      for (int r = 0; r < P; ++r)
        for (int q = 0; q < num_rounds; ++q)
          for (int c = 0; c < C; ++c) visit(q, r, c);
    };
    for_all([&](int q, int r, int c) {
      exchange::announce(rings_.agent(), rings_.peers(), announcement_, r, q * C + c,
                         static_cast<std::uint32_t>(sent[slot(q, r, c)]));
    });
    const std::int64_t bytes = (P - 1) * std::int64_t{num_rounds} * C * size_of(DType::i64);
    made(bytes, bytes);
    for_all([&](int q, int r, int c) {
      std::int64_t n = -1;
      wait_until(
          [&] { return (n = exchange::heard(rings_.agent(), rings_.peers(), announcement_, r, q * C + c)) >= 0; },
          [&] { return r; });
      received[slot(q, r, c)] = static_cast<std::int32_t>(n);
    });
    return bytes;
  }
  /// What goes past the group is a call of it all the same.
  void made(std::int64_t sent, std::int64_t received) { inside_.made(Call::all_to_all, sent, received); }

 private:
  /// The place of the first rank of the node that a transfer is stuck for.
  int waits_for(const PeerTransfer& p) const {
    for (std::size_t i = 0; i < p.received.size(); ++i)
      if (!p.received[i])
        return p.way == exchange::Way::dispatch ? static_cast<int>(i) / rings_.num_channels()
                                                : p.arrived[i].waits_for();
    for (std::size_t i = 0; i < p.sent.size(); ++i)
      if (!p.sent[i]) return static_cast<int>(i) / rings_.num_channels();
    return inside_.rank();
  }
  /// Nobody is blamed at first for what other nodes keep back: who waits for the late one inside its node knows better.
  std::string blame(int peer, std::chrono::milliseconds waited) {
    const int s = inside_.size(), rank = node_ * s + peer;
    if (!words_.waits(rings_.agent(), peer))
      return fmt::format("rank {} of {} has let nothing come or go for {} ms", rank, whole_.name(), waited.count());
    if (waited < 3 * patience_) return {};
    std::string others;
    for (int r = peer; r < whole_.size(); r += s)
      if (r != rank) others += fmt::format("{}{}", others.empty() ? "" : ", ", r);
    return fmt::format("rank {} of {} has waited for {} ms for its peers in other nodes: {}", rank, whole_.name(),
                       waited.count(), others);
  }

  Group &whole_, &inside_;
  int node_;
  std::chrono::milliseconds patience_;
  PeerWindows windows_;
  PeerRings<Agent> rings_;
  RailWords<Agent> words_;
  std::vector<std::unique_ptr<RailTransfer>> transfers_;
  std::uint64_t announcement_ = 0;
};

}  // namespace fourmi
