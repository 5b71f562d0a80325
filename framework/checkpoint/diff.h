// `fourmi checkpoint diff A B`: which tensors differ, and by how much. Digests decide; only tensors whose digests
// differ are read.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "framework/checkpoint/load.h"

namespace fourmi {

/// One tensor that is not the same in both.
struct TensorDifference {
  std::string name;
  std::string what;  ///< "only in A", "only in B", "f32 [4, 2] and f32 [4, 3]", or empty: the values differ, as follows
  std::int64_t num_elements = 0, num_different = 0;  ///< different bits
  std::int64_t first = 0;                            ///< row-major index of the first different element
  double value_a = 0, value_b = 0;                   ///< there
  double max_abs = 0;                                ///< largest |a - b|; NaN if either is one where bits differ
  double relative = 0;                               ///< |a - b| / |a|, Euclidean norms
};

struct CheckpointDifference {
  std::string root_a, root_b;
  std::int64_t step_a = 0, step_b = 0, num_equal = 0;
  bool training_state_differs = false;  ///< data position and the like
  std::vector<TensorDifference> tensors;

  bool same() const { return tensors.empty() && !training_state_differs; }
};

/// Of proven checkpoints. Memory: a few MB.
CheckpointDifference compare_checkpoints(const Checkpoint& a, const Checkpoint& b, Disk& disk = real_disk());

std::string to_text(const CheckpointDifference& difference);
std::string to_json(const CheckpointDifference& difference);

}  // namespace fourmi
