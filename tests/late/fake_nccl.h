// NCCL's functions between threads of the test, on streams of a late device. Sends wait on their stream until they are
// received, as NCCL's may: what would wait for ever there does so here.
#pragma once

#include "parallel/nccl/library.h"

namespace fourmi::test {

/// All functions; any number of communicators.
nccl::Functions fake_nccl();

}  // namespace fourmi::test
