// The ranks' clocks against rank 0's, by round trips: before a traced step and after it, since two machines' clocks run
// at speeds of their own.
#pragma once

#include <cstdint>

#include "parallel/group.h"

namespace fourmi {

/// Nanoseconds of steady clocks.
struct ClockReading {
  std::int64_t at = 0;      ///< on this rank's clock
  std::int64_t offset = 0;  ///< by which it is ahead of rank 0's
  std::int64_t error = 0;   ///< at most so much more or less: half of the fastest round trip
};

/// Collective. Ranks of one boot of one machine have one clock: where a measurement does not speak against it, their
/// offset and error are 0. `ahead`: what this rank's clock is made to be ahead, for tests.
ClockReading read_clock(Group& world, std::int64_t ahead = 0);

/// From a rank's clock to rank 0's.
struct RankClock {
  ClockReading before, after;
  std::int64_t on_first(std::int64_t time) const;
  std::int64_t error() const { return before.error > after.error ? before.error : after.error; }
};

}  // namespace fourmi
