// One file of a checkpoint whose tensors are made piece by piece while it is written: for what is larger than memory.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "framework/checkpoint/rank_file.h"

namespace fourmi {

/// A whole tensor of which nothing is in memory.
struct StreamedTensor {
  std::string name, alias;  ///< as of a Box
  DType dtype = DType::f32;
  Shape shape;

  std::int64_t bytes() const { return shape.num_elements() * size_of(dtype); }
};

/// Makes bytes [begin, begin + out.size()) of tensor `index`; pieces come in order, each whole elements, at most 4 MiB.
using TensorSource = std::function<void(std::size_t index, std::int64_t begin, std::span<std::byte> out)>;

/// Writes the file, forces it to the disk, reads it back and compares digests. No tensor may be empty. Throws
/// Error(environment), and what `source` throws.
RankFile write_streamed_file(Disk& disk, const std::filesystem::path& path, std::span<const StreamedTensor> tensors,
                             const TensorSource& source);

}  // namespace fourmi
