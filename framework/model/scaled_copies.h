// FP8 copies of the matrices that linear maps and experts read (docs/precision.md). They are derived: no optimizer,
// norm or checkpoint knows them. Who owns rows of a weight makes their copy, and all gather it. A parameter's copy
// follows that of the one before in the table, so that what products read together (gate_proj and up_proj, all experts
// of a layer: Parameter::joined) is one tensor here too: all but the last of them have whole panels of 128 rows (groups
// of 32), which the recipe's checks see to.
//
// Products that sum over a weight's rows (dx) read it otherwise. What they read is made once a step of the copy, for
// all that products read together at once:
//   mxe4m3_rows    columns: scales down the columns, each for 32 rows
//   e4m3_panels    on a GPU the transpose in panels, for Hopper's kernels want what is summed contiguous; the CPU reads
//                  the panels as they are
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
  /// Its columns and its transpose [.., K, N]; absent where there are none. On a GPU `shape` is all that products read
  /// together.
  ColumnScaled columns(std::int64_t offset, const Shape& shape) const;
  Tensor transposed(std::int64_t offset, const Shape& shape) const;
  /// What is derived of a region's copies.
  void derive(const Stream&, const Region&) const;

 private:
  struct Place {
    std::int64_t bytes = 0;                 ///< in memory_
    std::int64_t elements = 0, scales = 0;  ///< in column_elements_, column_scales_
    std::int64_t transposed = 0;            ///< in transposed_
  };
  struct Copy {
    std::int64_t offset;  ///< of the parameter, in elements of the matrices' buffer
    Shape shape;
    Place at;
  };
  /// What products read together: E matrices [N, K]; where what is derived of it lies.
  struct Operand {
    std::int64_t offset, E, N, K;
    Place at;

    std::int64_t end() const { return offset + E * N * K; }
    std::int64_t column_groups() const { return E * ScaledFormat::num_blocks(N, ScaledFormat::mx_block); }
    Shape shape() const { return {E, N, K}; }
    bool is(const Shape& s) const;
  };
  bool has_columns() const { return dtype_ == DType::mxe4m3_rows; }
  bool has_transposed() const { return dtype_ == DType::e4m3_panels && memory_.device != Device::cpu; }
  Place add(std::span<const Parameter* const> matrices, const Region&, Device, Place end);
  std::vector<Copy>::const_iterator find(std::int64_t offset) const;
  const Place& place(std::int64_t offset) const;
  const Operand& operand(std::int64_t offset, const Shape& shape) const;

  DType dtype_;
  std::vector<Copy> copies_;                             // ascending offsets
  std::vector<Operand> operands_;                        // alike
  Tensor memory_;                                        // u8
  Tensor column_elements_, column_scales_, transposed_;  // u8, f32, u8
};

}  // namespace fourmi
