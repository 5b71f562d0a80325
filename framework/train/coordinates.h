// Where a rank stands, by what the recipe says of the axes: which stage it works at, which parts of tensors it holds,
// and who holds the same ones.
#pragma once

#include "framework/train/optimizer.h"
#include "framework/train/stages.h"

namespace fourmi {

struct Coordinates {
  Coordinates(const Recipe& recipe, const StageMap& stages, const Mesh& mesh, int rank);
  Holding holding(const Recipe& recipe, const StageMap& stages) const;
  int rank;       ///< among all
  int stage;      ///< along the pipeline
  Member data;    ///< among the ranks that share the global batch
  Shares shares;  ///< of tensors
  Memberships members;
};

}  // namespace fourmi
