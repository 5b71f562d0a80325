// What tests may ask of an emulated card (tests/cuda_on_cpu has a twin of this file); a real one does as it likes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fourmi::test {

/// Threads take turns, and copies are done, in an order of the seed from here on.
inline void shuffle_card(std::uint64_t) {}
/// Copies that kernels have begun and not waited for.
inline std::size_t copies_left_on_card() {
  return 0;
}

}  // namespace fourmi::test
