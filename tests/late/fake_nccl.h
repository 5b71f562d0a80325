// NCCL's functions between threads of the test, on streams of a late device. Sends wait on their stream until they are
// received, as NCCL's may: what would wait for ever there does so here. Two ranks that exchange something for the first
// time wait for one another on the host, as NCCL's do while they connect; and an abort alone waits until no other
// communicator of its rank is at work. Waits on the host that last too long end in an error, and are counted.
#pragma once

#include "parallel/nccl/library.h"

namespace fourmi::test {

/// All functions; any number of communicators.
nccl::Functions fake_nccl();
/// Calls so far that would have waited for ever.
int fake_nccl_hangs();

}  // namespace fourmi::test
