// A thread's memory for a product: packed panels of both sides, chains of sums.
#pragma once

#include "kernels/runtime/working_memory.h"

namespace fourmi::linear {

template <WorkingUse use>
struct Scratch {
  WorkingMemory& memory;
  /// At least `count` elements, aligned to 64 bytes, contents undefined. Valid until the next call.
  template <class T>
  T* get(std::int64_t count) const {
    return memory.get<T>(use, count);
  }
};

struct ThreadScratch {
  Scratch<WorkingUse::product_left> a;
  Scratch<WorkingUse::product_right> b;
  Scratch<WorkingUse::product_sums> chains;
};

inline ThreadScratch thread_scratch() {
  WorkingMemory& mine = WorkingMemory::mine();
  return {{mine}, {mine}, {mine}};
}

}  // namespace fourmi::linear
