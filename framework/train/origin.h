// model.from: a new run takes the weights of another, and nothing else.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "framework/checkpoint/load.h"
#include "framework/train/engine.h"

namespace fourmi {

/// Collective. Opens MODEL (a run directory or a checkpoint; another program's is imported to
/// <run.directory>/imported first), proves it, and holds its architecture and tensors against
/// this run's, key by key: throws Error(input) naming all that differ. Keys that later phases of a training change on
/// purpose (positions, rotary scaling, initializer_range) may differ; they are said in `messages`.
Checkpoint open_origin(Group& group, const Recipe& recipe, const ParameterTable& table,
                       std::vector<std::string>& messages);

/// Collective. The masters and the router bias of the checkpoint into the engine, cut for this layout; moments stay as
/// they are.
void take_weights(Engine& engine, Group& group, const Checkpoint& origin);

}  // namespace fourmi
