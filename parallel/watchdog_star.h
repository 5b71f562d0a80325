// How the watchdog's star comes about: rank 0 listens, the group carries its address, the others connect.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/group.h"
#include "parallel/rank_process.h"
#include "parallel/watchdog_link.h"

namespace fourmi::watchdog {

struct Star {
  /// Rank 0: links[r] to rank r, links[0] empty. Others: links[0] to rank 0, nothing else.
  std::vector<std::unique_ptr<Link>> links;
  std::vector<std::string> hosts;      ///< by rank
  std::vector<RankProcess> processes;  ///< by rank
};

/// Collective. Errors as in Watchdog's constructor.
Star connect_star(Group& group);

}  // namespace fourmi::watchdog
