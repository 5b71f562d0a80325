// Ranks of one process that have something of each other's and may leave only together. Nothing of it is a call of a
// group, so it ends also where the group is poisoned. Whoever enters leaves; who has left is gone for the others.
#pragma once

#include <atomic>

#include "parallel/backoff.h"

namespace fourmi {

class Meeting {
 public:
  /// Before the others can get at what is this rank's.
  void enter() { entered_.fetch_add(1); }
  /// Returns when all who entered leave.
  void leave() {
    left_.fetch_add(1);
    Backoff backoff;
    while (left_.load() < entered_.load()) backoff.pause();
  }

 private:
  std::atomic<int> entered_ = 0, left_ = 0;
};

}  // namespace fourmi
