// What a checkpoint holds: boxes of named tensors in the global index space. A rank has at most one box of a tensor: a
// rectangle of its rows (dim 0) and columns (dim 1), all further dims whole. Data-parallel ranks cut rows, tensor-
// parallel ones rows or columns.
#pragma once

#include <cstdint>
#include <string>

#include "framework/checkpoint/rectangle.h"
#include "kernels/runtime/device.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

struct Box {
  std::string name;  ///< dataset path, e.g. "/optimizer/master/model.embed_tokens.weight"
  std::string
      alias;  ///< a second name for the same bytes (a hard link), e.g. "/model/model.embed_tokens.weight"; may be empty
  Shape global;                     ///< the whole tensor
  std::int64_t first_row = 0;       ///< this box: rows [first_row, first_row + data.dim(0))
  Tensor data;                      ///< contiguous, [rows, columns, rest of global]
  std::int64_t first_column = 0;    ///< and columns [first_column, first_column + data.dim(1))
  DeviceRuntime* device = nullptr;  ///< whose memory it is; null: the host's

  Rectangle part() const { return {first_row, data.dim(0), first_column, columns_of(data.shape)}; }
  /// Row-major index in the whole tensor of the element with this index in `data`.
  std::int64_t global_index(std::int64_t index) const {
    const ElementRuns runs = runs_of(part(), global);
    const auto length = static_cast<std::int64_t>(runs.length), stride = static_cast<std::int64_t>(runs.stride);
    return static_cast<std::int64_t>(runs.first) + index / length * stride + index % length;
  }
};

}  // namespace fourmi
