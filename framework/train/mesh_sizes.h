// The mesh that a recipe asks for.
#pragma once

#include "framework/recipe/recipe.h"
#include "parallel/mesh.h"

namespace fourmi {

inline MeshSizes mesh_sizes(const Recipe& recipe, int ranks) {
  const ParallelSection& p = recipe.parallel;
  return {.ranks = ranks,
          .pipeline = p.pipeline,
          .context = p.context,
          .tensor = p.tensor,
          .expert = p.expert,
          .expert_tensor = p.expert_tensor,
          .data = p.data};
}

}  // namespace fourmi
