// How far the ranks' clocks are apart. Nothing in training relies on it; logs and lease files are read beside each
// other by people.
#pragma once

#include <vector>

#include "parallel/group.h"

namespace fourmi::doctor {

/// Collective. Seconds by which each rank's wall clock is ahead of rank 0's, at rank 0; elsewhere empty. Exact to half
/// the fastest of eight round trips.
std::vector<double> clock_offsets(Group& group);

}  // namespace fourmi::doctor
