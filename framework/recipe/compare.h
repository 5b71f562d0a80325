// What differs between two recipes, for the rules of going on with a run.
#pragma once

#include <string>
#include <vector>

#include "framework/recipe/key_class.h"
#include "framework/recipe/recipe.h"

namespace fourmi {

/// A key whose value differs; "none" where one of the recipes does not have it.
struct ChangedKey {
  std::string key;  ///< "optimizer.learning_rate", "data.train.web.weight"; "data.train" for the names of its sources
  std::string before, after;  ///< as YAML
  recipe::KeyClass key_class = recipe::KeyClass::asked;
};

/// All keys that differ. Compares resolved values: writing out a default is no change. model.config is not compared,
/// the keys taken from it are.
std::vector<ChangedKey> compare(const Recipe& before, const Recipe& after);

}  // namespace fourmi
