// Ranks that are processes, without MPI: fork()ed, joined by socket pairs, their reports in shared memory. For what
// threads cannot show: a rank that dies.
#pragma once

#include <cstdint>
#include <functional>

#include "parallel/group.h"
#include "parallel/watchdog.h"

namespace fourmi {

/// What one rank left behind. Lives in memory that all ranks share.
struct ForkedReport {
  int callbacks = 0;  ///< how often the watchdog called back
  double called_at = 0, died_at = 0, ended_at = 0;
  int rank = -1, phase = -1, exit_status = -1, reporter = -1;
  std::int64_t step = -1;
  char cause[256] = {}, host[64] = {};
  bool told_announced = false;
  int announced = -1;       ///< what announce_failure returned
  double longest_call = 0;  ///< of set_phase
  int wait_status = 0;      ///< of waitpid
};

/// Seconds of the machine's steady clock, comparable between processes.
double steady_seconds();

/// Runs body(group, report of this rank) in `size` processes and waits for all. A body that returns ends with status 0,
/// one that throws with 98. Processes that take longer than 30 s are killed.
using ForkedBody = std::function<void(Group&, ForkedReport&)>;
const ForkedReport* run_forked(int size, const ForkedBody& body);

/// A callback that notes the loss and, if asked, ends the process with status 7.
Watchdog::Callback note_loss(ForkedReport& report, bool end);

/// Called by each rank with what it receives in a broadcast (to look at the watchdog's invitation).
inline std::function<void(std::span<const std::byte>)> on_broadcast;

}  // namespace fourmi
