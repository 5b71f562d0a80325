// What an engine is made of. Inside of the engine alone: engine*.cpp.
#pragma once

#include "framework/train/engine.h"

namespace fourmi {

/// Where a rank stands.
struct Engine::Coordinates {
  Coordinates(const Recipe& recipe, const StageMap& stages, const Mesh& mesh, int rank);
  int stage;      ///< along the pipeline
  Member data;    ///< among the ranks that share the global batch
  Shares shares;  ///< of tensors
  Memberships members;
};

struct Engine::Parts {
  /// `tensor`: the group of the tensor axis; null where memory is only measured.
  Parts(const Recipe& recipe, const StageMap& stages, const ParameterTable& held, const Coordinates& at, Group* tensor,
        Arenas& arenas);
  ParameterStore store;
  ModelTables tables;
  Optimizer optimizer;
  Pipeline pipeline;
  std::vector<Slot> router_biases;
  std::int32_t refused = 0;
};

/// Mode layout cuts every sum over tokens by 1/16 of a sequence (docs/numerics.md L3, L5); mode run has as few cuts as
/// the work allows. `refused`: where to say that a partial sum is not finite or too large for an exact one.
Context cuts_of(const Recipe& recipe, std::int32_t* refused);

}  // namespace fourmi
