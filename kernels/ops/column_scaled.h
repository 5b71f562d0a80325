// e4m3 elements that share a scale down a column: the operands of products that sum over rows (docs/numerics.md "FP8
// products").
#pragma once

#include "kernels/runtime/tensor.h"

namespace fourmi {

/// M rows (an expert's after another's), K columns, G groups of rows. An element's value is q * its group's scale.
/// Groups are counted from the first row of each *run*, the last one of a run may be shorter, and their indices run on
/// over all runs in row order. A run is what one partial of a weight gradient sums (Cuts in kernels/ops/linear.h); of
/// weights it is all rows of one matrix.
///
/// On the CPU elements lie as their rows do. On a GPU they lie so that what is summed is contiguous, which is what its
/// matrix units read, and each group has group_rows places: element (row, k) of group g, the i-th row of it, is at
/// [k][g * group_rows + i] of [K, S], S = G * group_rows (G: all that scales_GK has room for). Places of a group behind
/// its last row hold zeros, so that products run over whole groups. elements_MK then has room for S * K bytes.
struct ColumnScaled {
  Tensor elements_MK;             ///< u8: e4m3 bytes; of experts' weights [E, N, K]
  Tensor scales_GK;               ///< f32; G may be larger than the number of groups
  std::int64_t group_rows = 128;  ///< 128, or 32: powers of two, multiplied in before the product (mx)

  /// G that is enough for `rows` rows, however they are cut into so many runs.
  static constexpr std::int64_t most_groups(std::int64_t rows, std::int64_t runs, std::int64_t group_rows) {
    return rows / group_rows + runs;
  }
  /// What elements take on the CPU or on a GPU.
  static constexpr std::int64_t element_bytes(Device device, std::int64_t M, std::int64_t K, std::int64_t G,
                                              std::int64_t group_rows) {
    return K * (device == Device::cpu ? M : G * group_rows);
  }
};

}  // namespace fourmi
