// What the tensor axis asks of a model: every dim that it cuts has whole units for each of its ranks (docs/numerics.md
// L1).
#pragma once

#include <functional>
#include <string>

#include "framework/recipe/recipe.h"

namespace fourmi::recipe {

/// Calls refuse(key, found, expected) for the first dim that does not fit.
void tensor_issues(const Recipe& recipe,
                   const std::function<void(const std::string&, std::string, std::string)>& refuse);

}  // namespace fourmi::recipe
