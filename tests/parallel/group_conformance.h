// One test body for every back end of Group. Each member runs it; it checks results against formulas and returns all
// bytes that it received, so that back ends can be compared byte for byte.
#pragma once

#include <vector>

#include "parallel/group.h"

namespace fourmi {

/// Every operation except cancellation.
std::vector<std::byte> run_conformance(Group& group);

/// Cancellation: makes subgroups, poisons them, leaves `group` usable. Returns the seconds that the slowest wait took
/// to end.
double run_cancellation(Group& group);

}  // namespace fourmi
