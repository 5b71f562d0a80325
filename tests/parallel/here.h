// Work of a rank that is a thread of the test.
#pragma once

#include "kernels/runtime/stream.h"

namespace fourmi {

inline Stream here() {
  thread_local ThreadPool pool(1);
  return Stream(pool);
}

}  // namespace fourmi
