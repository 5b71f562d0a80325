// In place of tests/hopper/card.h.
#pragma once

#include <optional>

#include "tests/cuda_on_cpu/hopper_products.h"

namespace fourmi::test {

inline void shuffle_card(std::uint64_t seed) {
  cuda_on_cpu::set_seed(seed);
  cuda_on_cpu::hopper::set_copy_seed(seed);
}
inline std::size_t copies_left_on_card() {
  return cuda_on_cpu::hopper::copies_left();
}

inline std::optional<std::int64_t> hopper_products_on_card() {
  return cuda_on_cpu::hopper::num_begun[static_cast<std::size_t>(cuda_on_cpu::hopper::Elements::e4m3)].load();
}
inline std::optional<std::int64_t> hopper_bf16_products_on_card() {
  return cuda_on_cpu::hopper::num_begun[static_cast<std::size_t>(cuda_on_cpu::hopper::Elements::bf16)].load();
}

/// Emulated units add exactly, then round.
inline constexpr double hopper_cut = 0;

}  // namespace fourmi::test
