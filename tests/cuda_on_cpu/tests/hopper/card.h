// In place of tests/hopper/card.h.
#pragma once

#include "tests/cuda_on_cpu/hopper_copies.h"

namespace fourmi::test {

inline void shuffle_card(std::uint64_t seed) {
  cuda_on_cpu::set_seed(seed);
  cuda_on_cpu::hopper::set_copy_seed(seed);
}
inline std::size_t copies_left_on_card() {
  return cuda_on_cpu::hopper::copies_left();
}

}  // namespace fourmi::test
