// How a rank waits for what its peers do in its memory.
#pragma once

#include <chrono>
#include <string>

#include "kernels/runtime/error.h"
#include "parallel/backoff.h"
#include "parallel/group.h"

namespace fourmi {

/// turn() moves what can move (true: something did) until done(). Throws Error(rank_lost) where the group is poisoned,
/// or where nothing has moved for `patience` (0: for ever) and blame(how long) says who is to blame; where it says
/// nothing, it is asked again.
template <class Turn, class Done, class Blame>
void wait_for_peers(Group& group, std::chrono::milliseconds patience, const Turn& turn, const Done& done,
                    const Blame& blame) {
  using Clock = std::chrono::steady_clock;
  Backoff backoff;
  Clock::time_point moved = Clock::now();
  while (!done()) {
    if (turn()) {
      backoff = {}, moved = Clock::now();
      continue;
    }
    if (group.cancelled()) group.barrier();  // says why
    const auto waited = Clock::now() - moved;
    if (patience.count() > 0 && waited > patience)
      if (const std::string cause = blame(std::chrono::duration_cast<std::chrono::milliseconds>(waited));
          !cause.empty()) {
        group.cancel(cause);
        throw Error(ExitStatus::rank_lost, "expert-parallel dispatch", cause,
                    "Start the run again; it goes on at its last checkpoint");
      }
    backoff.pause();
  }
}

}  // namespace fourmi
