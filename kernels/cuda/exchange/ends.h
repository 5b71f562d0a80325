// One rank's ends of all rings, as kernels get them: windows' addresses, where each ring stands between calls, and whom
// to tell when a peer is lost. For .cu files and their host side.
#pragma once

#include "kernels/cuda/exchange/watch.h"
#include "kernels/exchange/window.h"

namespace fourmi::cuda {

struct Ends {
  exchange::Peers peers;               ///< base: device memory
  std::uint64_t* positions = nullptr;  ///< device memory [2 ways][2 ends][P * C]: rows since the beginning of time
  Watch watch;

  FOURMI_INLINE int num_ranks() const { return peers.window.sizes().num_ranks; }
  FOURMI_INLINE int num_channels() const { return peers.window.sizes().num_channels; }
  FOURMI_INLINE int num_lanes() const { return num_ranks() * num_channels(); }
  FOURMI_INLINE int lane(int rank, int channel) const { return rank * num_channels() + channel; }
  FOURMI_INLINE std::uint64_t& written(exchange::Way way, int rank, int channel) const {
    return positions[static_cast<int>(way) * 2 * num_lanes() + lane(rank, channel)];
  }
  FOURMI_INLINE std::uint64_t& read(exchange::Way way, int rank, int channel) const {
    return positions[(static_cast<int>(way) * 2 + 1) * num_lanes() + lane(rank, channel)];
  }
};

/// exchange::CardRoute's tables.
struct RouteTables {
  std::int32_t *sent, *received, *first;
};

}  // namespace fourmi::cuda
