// All ranks run the same program with the same recipe, or none trains: ranks that differ would compute different sums,
// or wait for calls that others never make.
#pragma once

#include <string>

#include "framework/recipe/recipe.h"
#include "parallel/group.h"

namespace fourmi {

/// Collective. `build`: what tells one build of the program from another. Throws Error(environment) on all ranks alike,
/// naming rank, host and what differs, where a rank has another build or another recipe than rank 0.
void agree_launch(const Recipe& recipe, const std::string& build, Group& group);

}  // namespace fourmi
