// How many leaves of each sum over a cut dim this rank has (docs/numerics.md L1, L2). In mode layout a dim has the same
// leaves however many ranks share it; else a rank's share is one sum.
#pragma once

#include <cstdint>

#include "framework/recipe/recipe.h"

namespace fourmi {

struct Leaves {
  std::int64_t heads = 1, intermediate = 1, shared_intermediate = 1, vocabulary = 1, experts = 1,
               expert_intermediate = 1;
  /// What one product reads together (gate and up; queries, keys and values) has its own tree each where their
  /// gradients are summed: runs of leaves of all of them would depend on who holds them.
  bool apart = false;
};

/// Of mode layout, where the axes have so many ranks (framework/recipe/cut_units.h).
Leaves layout_leaves(const ModelSection& model, Compute compute, std::int64_t tensor, std::int64_t expert = 1,
                     std::int64_t expert_tensor = 1);

}  // namespace fourmi
