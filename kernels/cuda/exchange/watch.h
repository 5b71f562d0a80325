// How long a warp waits for a peer, and what it leaves behind for the host when that was too long. The first warp that
// gives up says why, in memory of the host; all others of the rank leave then too, so that the stream goes on. For .cu
// files and their host side.
#pragma once

#include <cstdint>

#include "kernels/exchange/window.h"

namespace fourmi::cuda {

enum class Awaited : std::uint32_t { nothing, count, row, room, space };

/// Which flag a warp waited for in vain; or (space) more rows arrive than there is space for: `seen` of them, `wanted`
/// at most. In the host's memory, written by the device.
struct GaveUp {
  std::uint64_t written;  ///< not zero: the rest is there
  std::uint64_t seen;     ///< what the flag said
  std::uint64_t wanted;   ///< rows that it had to say
  Awaited what;
  int peer, channel;
  exchange::Way way;
};

struct Watch {
  std::uint32_t* claimed = nullptr;  ///< device memory: not zero when a warp has given up
  GaveUp* report = nullptr;          ///< the host's memory
  std::uint64_t patience = 0;        ///< nanoseconds; 0: for ever
};

}  // namespace fourmi::cuda
