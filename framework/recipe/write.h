// A recipe back as YAML.
#pragma once

#include <string>

#include "framework/recipe/recipe.h"

namespace fourmi {

/// The recipe with every default filled in, as YAML that load_recipe reads back to the same values (model.config aside:
/// its keys are written out, so the text needs no other file).
std::string to_yaml(const Recipe& recipe);

}  // namespace fourmi
