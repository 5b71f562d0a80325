// What the context axis asks of a sequence: whole sixteenths for each of its ranks, and for each of the tensor axis'
// ranks that share these (docs/numerics.md L4, L5).
#pragma once

#include <functional>
#include <string>

#include "framework/recipe/recipe.h"

namespace fourmi::recipe {

/// Calls refuse(key, found, expected, remedy) for the first thing that does not fit.
void context_issues(const Recipe& recipe,
                    const std::function<void(const std::string&, std::string, std::string, std::string)>& refuse);

}  // namespace fourmi::recipe
