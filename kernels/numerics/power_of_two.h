// Sizes of perfect binary trees.
#pragma once

#include <cstdint>

namespace fourmi {

constexpr bool is_power_of_two(std::int64_t n) {
  return n > 0 && (n & (n - 1)) == 0;
}

/// Levels of the tree over n parts: k for n = 2^k.
constexpr int tree_levels(std::int64_t n) {
  int k = 0;
  while ((std::int64_t{1} << k) < n) ++k;
  return k;
}

}  // namespace fourmi
