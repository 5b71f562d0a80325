// What a checkpoint holds: boxes of named tensors in the global index space. A rank has at most one box of a tensor: a
// range of its rows (dim 0), all other dims whole.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/runtime/tensor.h"

namespace fourmi {

struct Box {
  std::string name;  ///< dataset path, e.g. "/optimizer/master/model.embed_tokens.weight"
  std::string
      alias;  ///< a second name for the same bytes (a hard link), e.g. "/model/model.embed_tokens.weight"; may be empty
  Shape global;                ///< the whole tensor
  std::int64_t first_row = 0;  ///< this box: rows [first_row, first_row + data.dim(0))
  Tensor data;                 ///< contiguous host memory, [rows, rest of global]
};

}  // namespace fourmi
