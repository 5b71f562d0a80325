// NCCL's functions between threads of the test, on streams of a late device. Sends wait on their stream until they are
// received, as NCCL's may: what would wait for ever there does so here. Hosts wait as NCCL's do: two ranks that
// exchange something for the first time for one another, who destroys a communicator for the other members, and an
// abort alone until no other communicator of its rank is at work. Waits on the host that last too long end in an error,
// and are counted.
#pragma once

#include "parallel/nccl/windows.h"

namespace fourmi::test {

/// All functions; any number of communicators.
nccl::Functions fake_nccl();
/// With windows, where load/store teams have so many consecutive ranks.
nccl::WindowLibrary fake_windows(int team_size);
/// As code on a device finds it.
void* fake_window_address(void* window, int rank);
/// Pieces of memory for windows that are not given back.
int fake_nccl_pieces();
/// Calls so far that would have waited for ever.
int fake_nccl_hangs();

}  // namespace fourmi::test
