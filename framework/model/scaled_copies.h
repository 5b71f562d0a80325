// FP8 copies of the matrices that linear maps and experts read (docs/precision.md). They are derived: no optimizer,
// norm or checkpoint knows them. A parameter's panels follow those of the one before in the table, so that what
// products read together (gate_proj and up_proj, all experts of a layer) is one tensor here too: all but the last of
// them have whole panels of 128 rows, which the recipe's checks see to.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "framework/model/parameters.h"
#include "kernels/numerics/float8.h"
#include "kernels/runtime/arena.h"
#include "kernels/runtime/stream.h"

namespace fourmi {

class ScaledCopies {
 public:
  /// `regions`: of the matrices. With `in_turn` layers share the memory of the largest, as their weights do.
  ScaledCopies(const ParameterTable& table, std::span<const Region> regions, bool in_turn, DType dtype, Arena& arena);

  /// The copy of the adjacent parameters that begin with the one at `offset` in the matrices' buffer.
  Tensor of(std::int64_t offset, const Shape& shape) const;
  /// Of all in a region; weight(offset, shape) is a parameter's weight.
  void make(const Stream&, ScaleKind, const Region&,
            const std::function<Tensor(std::int64_t, const Shape&)>& weight) const;

 private:
  struct Copy {
    std::int64_t offset;  ///< of the parameter, in elements of the matrices' buffer
    Shape shape;
    std::int64_t at;  ///< bytes, in memory_
  };
  std::vector<Copy>::const_iterator find(std::int64_t offset) const;

  DType dtype_;
  std::vector<Copy> copies_;  // ascending offsets
  Tensor memory_;             // u8
};

}  // namespace fourmi
