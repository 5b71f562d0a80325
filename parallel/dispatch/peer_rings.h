// All rings between this rank and its peers, and what is under way on them. One thread has all of its rank's lanes
// (kernels/exchange/lanes.h): it goes from one to the next and stops at none, so who waits for one transfer helps all
// others on. Transfers of one way follow each other on each ring in the order in which they were started, which is the
// same on all ranks.
//
// Agent: exchange::HostAgent, or a test's.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/exchange/forward.h"
#include "kernels/runtime/error.h"

namespace fourmi {

/// One transfer's lanes. Its owner says where they begin (PeerRings::start), and keeps it for the next one.
struct PeerTransfer {
  exchange::Way way = exchange::Way::dispatch;
  std::vector<exchange::SendTokens> tokens;      ///< dispatch: [ranks][channels]
  std::vector<exchange::SendForwards> forwards;  ///< dispatch, in place of tokens: rows of other nodes
  std::vector<exchange::ReceiveRows> rows;       ///< dispatch: [ranks][channels]
  std::vector<exchange::SendResults> results;    ///< combine: [ranks][channels]
  std::vector<exchange::ReceiveResults>
      arrived;                       ///< combine: [channels]; empty: it is not known yet what becomes of them
  std::vector<char> sent, received;  ///< lanes that are done

  bool all_sent() const { return all(sent); }
  bool all_received() const { return all(received); }

 private:
  static bool all(const std::vector<char>& lanes) {
    return std::all_of(lanes.begin(), lanes.end(), [](char done) { return done != 0; });
  }
};

template <class Agent>
class PeerRings {
 public:
  PeerRings(const exchange::Peers& peers, Agent agent) : peers_(peers), agent_(std::move(agent)) {
    const exchange::WindowSizes& sizes = peers.window.sizes();
    for (const exchange::Way way : {exchange::Way::dispatch, exchange::Way::combine})
      for (int r = 0; r < sizes.num_ranks; ++r)
        for (int c = 0; c < sizes.num_channels; ++c) {
          writers_[index(way)].emplace_back(peers.to(way, r, c), peers.window.shape(way), 0);
          readers_[index(way)].emplace_back(peers.from(way, r, c), peers.window.shape(way), 0);
        }
    blocked_.resize(num_lanes());
    under_way_.reserve(8);
  }

  Agent& agent() { return agent_; }
  const exchange::Peers& peers() const { return peers_; }
  int num_ranks() const { return peers_.window.sizes().num_ranks; }
  int num_channels() const { return peers_.window.sizes().num_channels; }
  std::size_t num_lanes() const { return static_cast<std::size_t>(num_ranks() * num_channels()); }
  std::size_t lane(int rank, int channel) const { return static_cast<std::size_t>(rank * num_channels() + channel); }
  exchange::RingWriter& writer(exchange::Way way, int rank, int channel) {
    return writers_[index(way)][lane(rank, channel)];
  }
  exchange::RingReader& reader(exchange::Way way, int rank, int channel) {
    return readers_[index(way)][lane(rank, channel)];
  }

  void start(PeerTransfer& transfer) { under_way_.push_back(&transfer); }
  void end(const PeerTransfer& transfer) {
    under_way_.erase(std::find(under_way_.begin(), under_way_.end(), &transfer));
  }

  /// One turn over all lanes. sum(transfer) gives what ReceiveResults::step wants. Did a row move, or a lane end?
  template <class Sum>
  bool turn(const Sum& sum) {
    bool moved = false;
    for (const exchange::Way way : {exchange::Way::dispatch, exchange::Way::combine}) {
      const bool to_experts = way == exchange::Way::dispatch;
      moved |= turn(way, &PeerTransfer::sent, [&](PeerTransfer& t, std::size_t i) {
        if (!to_experts) return t.results[i].step(agent_);
        return t.forwards.empty() ? t.tokens[i].step(agent_) : t.forwards[i].step(agent_);
      });
      moved |= turn(way, &PeerTransfer::received, [&](PeerTransfer& t, std::size_t i) {
        if (to_experts) return t.rows[i].step(agent_);
        return t.arrived.empty() ? exchange::Progress::stuck : t.arrived[i].step(agent_, sum(t));
      });
    }
    return moved;
  }

 private:
  static std::size_t index(exchange::Way way) { return static_cast<std::size_t>(way); }

  /// Lanes of one kind: of each, the first transfer that has not done with it.
  template <class Step>
  bool turn(exchange::Way way, std::vector<char> PeerTransfer::*done, const Step& step) {
    std::fill(blocked_.begin(), blocked_.end(), 0);
    bool moved = false;
    for (PeerTransfer* t : under_way_) {
      if (t->way != way) continue;
      std::vector<char>& lanes = t->*done;
      for (std::size_t i = 0; i < lanes.size(); ++i) {
        if (lanes[i] || blocked_[i]) continue;
        const exchange::Progress progress = step(*t, i);
        moved |= progress != exchange::Progress::stuck;
        lanes[i] = progress == exchange::Progress::done;
        blocked_[i] = !lanes[i];
      }
    }
    return moved;
  }

  exchange::Peers peers_;
  Agent agent_;
  std::vector<exchange::RingWriter> writers_[2];
  std::vector<exchange::RingReader> readers_[2];
  std::vector<PeerTransfer*> under_way_;
  std::vector<char> blocked_;
};

}  // namespace fourmi
