// What precisions of eight bits ask of a model: where one matrix lies below another, or a sum is cut, a block of
// 128 (mxfp8: of 32) ends (docs/precision.md).
#pragma once

#include <functional>
#include <string>

#include "framework/recipe/recipe.h"

namespace fourmi::recipe {

/// Calls refuse(key, found, expected) for each size, and each mode, that does not fit.
void precision_issues(const Recipe& recipe,
                      const std::function<void(const std::string&, std::string, std::string)>& refuse);

}  // namespace fourmi::recipe
