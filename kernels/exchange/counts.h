// How many rows a peer will send, told without a barrier. A number travels in one word with the number of its
// announcement, so that the reader knows whether it has come. There are two places, for even and odd announcements: a
// rank makes the next but one only when it has read the next one of all, which a peer makes when it has read this one.
// For host and device alike.
#pragma once

#include "kernels/exchange/window.h"

namespace fourmi::exchange {

/// Announcements count from 1.
FOURMI_INLINE constexpr std::uint64_t announced(std::uint64_t announcement, std::uint32_t count) {
  return (announcement & 0xffffffffu) << 32 | count;
}
FOURMI_INLINE constexpr bool is_of(std::uint64_t word, std::uint64_t announcement) {
  return word >> 32 == (announcement & 0xffffffffu);
}

/// Tells `to` number i of an announcement.
template <class Agent>
FOURMI_INLINE void announce(Agent& agent, const Peers& peers, std::uint64_t announcement, int to, std::int64_t i,
                            std::uint32_t count) {
  agent.release(peers.at<std::uint64_t>(to, peers.window.counts(announcement, peers.rank)) + i,
                announced(announcement, count));
}
/// Number i of what `from` announced, or -1: it has not come yet.
template <class Agent>
FOURMI_INLINE std::int64_t heard(Agent& agent, const Peers& peers, std::uint64_t announcement, int from,
                                 std::int64_t i) {
  const std::uint64_t word =
      agent.acquire(peers.at<std::uint64_t>(peers.rank, peers.window.counts(announcement, from)) + i);
  return is_of(word, announcement) ? static_cast<std::int64_t>(word & 0xffffffffu) : -1;
}

}  // namespace fourmi::exchange
