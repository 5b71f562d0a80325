// The finish of a chain: residual, rounding, or the exact addition of a partial (docs/numerics.md "Linear", 4 and 5).
#pragma once

#include <immintrin.h>

#include <atomic>
#include <cmath>
#include <type_traits>

#include "kernels/cpu/linear_problem.h"
#include "kernels/numerics/fixed128.h"

namespace fourmi::linear {

template <class Acc, class Y>
void finish_as(const Output& out, std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols,
               const Acc* tile, std::int64_t tile_stride) {
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t at = (row + i) * out.row_stride + col;
    const Acc* chain = tile + i * tile_stride;
    Y* y = reinterpret_cast<Y*>(out.data) + at;
    if (out.residual == nullptr) {
      for (std::int64_t j = 0; j < cols; ++j) y[j] = static_cast<Y>(chain[j]);
    } else {
      const Y* residual = reinterpret_cast<const Y*>(out.residual) + at;
      for (std::int64_t j = 0; j < cols; ++j) y[j] = static_cast<Y>(static_cast<Acc>(residual[j]) + chain[j]);
    }
  }
}

inline void finish_exact(const Output& out, std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols,
                         const float* tile, std::int64_t tile_stride) {
  bool refused = false;
  for (std::int64_t i = 0; i < rows; ++i) {
    int128* total = reinterpret_cast<int128*>(out.data) + (row + i) * out.row_stride + col;
    for (std::int64_t j = 0; j < cols; ++j) {
      const float partial = tile[i * tile_stride + j];
      const float whole = std::rint(partial), low = (partial - whole) * 0x1p64F;  // both exact
      if (std::abs(partial) < 0x1p40F && low != 0x1p63F)
        total[j] += (static_cast<int128>(static_cast<std::int64_t>(whole)) << 64) + _mm_cvtss_si64(_mm_set_ss(low));
      else if (fits_fixed128(partial))
        total[j] += to_fixed128(partial);
      else
        refused = true;
    }
  }
  if (refused && out.refused) std::atomic_ref(*out.refused).store(1, std::memory_order_relaxed);
}

/// Finishes rows x cols chains of a tile that belong at (row, col) of the output.
template <class Acc>
void finish(const Output& out, std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols,
            const Acc* tile, std::int64_t tile_stride) {
  if constexpr (std::is_same_v<Acc, double>) {
    finish_as<double, double>(out, row, col, rows, cols, tile, tile_stride);
  } else if (out.dtype == DType::fx128) {
    finish_exact(out, row, col, rows, cols, tile, tile_stride);
  } else if (out.dtype == DType::bf16) {
    finish_as<float, bfloat16>(out, row, col, rows, cols, tile, tile_stride);
  } else {
    finish_as<float, float>(out, row, col, rows, cols, tile, tile_stride);
  }
}

}  // namespace fourmi::linear
