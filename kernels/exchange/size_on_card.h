// How much of a card an exchange between ranks should take: enough multiprocessors that the link is the bound, and no
// more, since the rest computes meanwhile. A pure function of the ranks and of what a card's data sheet says; none of
// it is measured.
#pragma once

namespace fourmi::exchange {

struct CardAndLink {
  int num_multiprocessors = 132;
  double link_bytes_per_second = 450e9;   ///< one direction, of one card
  double latency_seconds = 1e-6;          ///< of a read of memory under load
  double bytes_in_flight_of_warp = 4096;  ///< 8 vectors of 16 bytes a lane (kernels/cuda/exchange/warp_agent.h)
};

/// A channel (window.h) has a sending and a receiving warp for each rank.
struct SizeOnCard {
  int num_multiprocessors = 1;
  int num_channels = 1;
};

/// Senders keep the link busy if what they have in flight, rate times latency, is enough; rows for this rank itself
/// come on top. Receivers copy as much beside them. A quarter more than that, since flags are waited for as well. Even,
/// at least 4 and at most a quarter of the card; multiprocessors > 0: so many, as a recipe says.
SizeOnCard size_on_card(int num_ranks, const CardAndLink& card, int multiprocessors = 0);

}  // namespace fourmi::exchange
