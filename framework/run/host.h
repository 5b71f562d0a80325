// Who this process is, so that another launch can tell whether it still lives.
#pragma once

#include <cstdint>
#include <string>

namespace fourmi {

/// A process, beyond reuse of its number and beyond a reboot.
struct ProcessIdentity {
  std::string host;           ///< for people; names of machines need not be unique
  std::string boot;           ///< the kernel's random id of this boot: the machine, as far as processes go
  std::string pid_namespace;  ///< containers on one kernel number their processes apart
  std::int64_t pid = 0;
  std::uint64_t start_ticks = 0;  ///< when the process started, in clock ticks since boot (/proc/<pid>/stat field 22)

  bool same_process_table(const ProcessIdentity& other) const {
    return !boot.empty() && boot == other.boot && pid_namespace == other.pid_namespace;
  }
};

std::string host_name();
ProcessIdentity this_process();

/// Does that very process run? Only meaningful in the same process table. A process that was killed and not yet waited
/// for is dead; one whose state may not be read but whose number is taken counts as alive.
bool is_alive(const ProcessIdentity& process);

/// Seconds since 1970 as "2026-11-21T22:06:39Z".
std::string utc_time(double seconds);
double now_seconds();

}  // namespace fourmi
