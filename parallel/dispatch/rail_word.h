// What ranks of a node tell each other of their waits for other nodes: a word each, in the last of the counts that its
// peers hear of it (kernels/exchange/window.h). It counts up at the beginning and at the end of a wait, so it is odd
// while the rank waits.
#pragma once

#include <vector>

#include "kernels/exchange/window.h"

namespace fourmi {

template <class Agent>
class RailWords {
 public:
  explicit RailWords(const exchange::Peers& peers)
      : peers_(peers), seen_(static_cast<std::size_t>(peers.window.sizes().num_ranks)) {}

  /// This rank begins or ends to wait.
  void tell(Agent& agent) {
    ++mine_;
    for (int i = 0; i < peers_.window.sizes().num_ranks; ++i)
      if (i != peers_.rank) agent.release(word(i, peers_.rank), mine_);
  }
  bool waits(Agent& agent, int peer) const { return agent.acquire(word(peers_.rank, peer)) % 2 != 0; }
  /// Has one of the others begun or ended to wait since the last call?
  bool changed(Agent& agent) {
    bool any = false;
    for (int i = 0; i < static_cast<int>(seen_.size()); ++i) {
      const std::uint64_t now = agent.acquire(word(peers_.rank, i));
      any |= now != std::exchange(seen_[static_cast<std::size_t>(i)], now);
    }
    return any;
  }

 private:
  std::uint64_t* word(int owner, int of) const {
    return peers_.at<std::uint64_t>(owner, peers_.window.counts(0, of)) + peers_.window.sizes().most_counts - 1;
  }
  exchange::Peers peers_;
  std::vector<std::uint64_t> seen_;
  std::uint64_t mine_ = 0;
};

}  // namespace fourmi
