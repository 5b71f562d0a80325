// A rank's process, so that a peer on the same host can end it where it cannot end itself: a stopped process (SIGSTOP)
// runs no code, and only SIGKILL reaches it.
#pragma once

#include <cstdint>

namespace fourmi {

struct RankProcess {
  std::int64_t id = 0;           ///< process id, within
  std::uint64_t name_space = 0;  ///< this namespace of process ids, of
  std::uint64_t host = 0;        ///< this boot of this host
  std::uint64_t start_time = 0;  ///< clock ticks since boot: a later process of the same id has another

  static RankProcess mine();
  /// Does `other` run on this host, and has it the same ids?
  bool shares_host(const RankProcess& other) const { return host == other.host && name_space == other.name_space; }
  /// Is it there and stopped by a signal? To be asked by a process that shares its host.
  bool is_stopped() const;
  void kill() const;
};

}  // namespace fourmi
