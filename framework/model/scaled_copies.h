// FP8 copies of the matrices that linear maps and experts read (docs/precision.md). They are derived: no optimizer,
// norm or checkpoint knows them. Who owns rows of a weight makes their copy, and all gather it. A parameter's copy
// follows that of the one before in the table, so that what products read together (gate_proj and up_proj, all experts
// of a layer) is one tensor here too: all but the last of them have whole panels of 128 rows (groups of 32), which the
// recipe's checks see to.
#pragma once

#include <span>
#include <vector>

#include "framework/model/parameters.h"
#include "kernels/numerics/float8.h"
#include "kernels/ops/column_scaled.h"
#include "kernels/runtime/arena.h"
#include "kernels/runtime/stream.h"

namespace fourmi {

class ScaledCopies {
 public:
  /// `regions`: of the matrices. With `in_turn` layers share the memory of the largest, as their weights do.
  ScaledCopies(const ParameterTable& table, std::span<const Region> regions, bool in_turn, DType dtype, Arena& arena);

  DType dtype() const { return dtype_; }
  /// Bytes of all copies of a region, which lie together (u8); where in them the copy of the parameter at `offset`
  /// begins.
  Tensor memory(const Region&) const;
  std::int64_t first_byte(const Region&, std::int64_t offset) const;

  /// The copy of the adjacent parameters that begin with the one at `offset` in the matrices' buffer.
  Tensor of(std::int64_t offset, const Shape& shape) const;
  /// Of mxe4m3_rows the same with scales down the columns, each for 32 rows, made of that copy: for products that sum
  /// over the rows. Of others, which serve both, absent.
  ColumnScaled columns(std::int64_t offset, const Shape& shape) const;
  /// What is derived of a region's copies: columns(), where there are such.
  void derive(const Stream&, const Region&) const;

 private:
  struct Place {
    std::int64_t bytes = 0;                 ///< in memory_
    std::int64_t elements = 0, scales = 0;  ///< in column_elements_, column_scales_
  };
  struct Copy {
    std::int64_t offset;  ///< of the parameter, in elements of the matrices' buffer
    Shape shape;
    Place at;
  };
  bool has_columns() const { return dtype_ == DType::mxe4m3_rows; }
  std::vector<Copy>::const_iterator find(std::int64_t offset) const;
  const Place& place(std::int64_t offset) const;

  DType dtype_;
  std::vector<Copy> copies_;                // ascending offsets
  Tensor memory_;                           // u8
  Tensor column_elements_, column_scales_;  // u8, f32
};

}  // namespace fourmi
