// The best of a row of values, part of routing and of the balance loss: ties go to the lower id, NaN counts as minus
// infinity (kernels/numerics/order_key.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/numerics/order_key.h"

namespace fourmi {

/// Writes the ids of the `count` largest of n keys, ascending, to `ids`, and marks those keys as excluded. At least
/// `count` are not excluded before. `scratch` holds count ids.
template <class Key>
void take_top_k(Key* keys, std::int64_t n, std::int64_t count, std::int32_t* ids, std::int32_t* scratch) {
  for (std::int64_t k = 0; k < count; ++k) {
    Key best = std::numeric_limits<Key>::min();
    for (std::int64_t e = 0; e < n; ++e) best = std::max(best, keys[e]);
    const auto none = static_cast<Key>(n);
    Key first = none;
    for (Key e = 0; e < none; ++e) {
      const Key place = keys[e] == best ? e : none;
      first = std::min(first, place);
    }
    keys[first] = std::numeric_limits<Key>::min();
    scratch[k] = static_cast<std::int32_t>(first);
  }
  for (std::int64_t k = 0; k < count; ++k) {
    std::int64_t place = 0;
    for (std::int64_t j = 0; j < count; ++j) place += scratch[j] < scratch[k];
    ids[place] = scratch[k];
  }
}

}  // namespace fourmi
