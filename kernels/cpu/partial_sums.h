// Gradients of vectors: partials over rows, each a chain of its own, added in ascending order or exactly (fx128).
#pragma once

#include <atomic>

#include "kernels/numerics/fixed128.h"
#include "kernels/numerics/target.h"
#include "kernels/ops/linear.h"  // Cuts

namespace fourmi {

template <class T>
FOURMI_INLINE void add_partial(T* dw, const T* partial, std::int64_t n, std::int32_t*) {
  for (std::int64_t d = 0; d < n; ++d) dw[d] += partial[d];
}
template <class T>
FOURMI_INLINE void add_partial(int128* dw, const T* partial, std::int64_t n, std::int32_t* refused) {
  for (std::int64_t d = 0; d < n; ++d) {
    const double x = static_cast<double>(partial[d]);
    if (fits_fixed128(x)) [[likely]]
      dw[d] += to_fixed128(x);
    else if (refused != nullptr)
      std::atomic_ref(*refused).store(1, std::memory_order_relaxed);
  }
}

/// The partial that a row belongs to.
FOURMI_INLINE std::int64_t part_of(const Cuts& cuts, std::int64_t row) {
  return cuts.rows == 0 ? 0 : (cuts.row_token != nullptr ? cuts.row_token[row] : row) / cuts.rows;
}

}  // namespace fourmi
