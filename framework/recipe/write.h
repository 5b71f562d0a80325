// A recipe back as YAML, and what differs between two of them.
#pragma once

#include <string>
#include <vector>

#include "framework/recipe/recipe.h"

namespace fourmi {

/// The recipe with every default filled in, as YAML that load_recipe reads back to the same values (model.config aside:
/// its keys are written out, so the text needs no other file).
std::string to_yaml(const Recipe& recipe);

/// A key whose value differs. Keys that only one of the two has: the other value is "none".
struct KeyChange {
  std::string key;  ///< "optimizer.learning_rate", "data.train.web.weight"; "data.train" for the names of its sources
  std::string old_value, new_value;  ///< as YAML
  KeyClass key_class = KeyClass::asked;
};

/// All keys that differ, in the order of the documentation. Compares resolved values: a default that is written out is
/// no change.
std::vector<KeyChange> compare(const Recipe& old_recipe, const Recipe& new_recipe);

}  // namespace fourmi
