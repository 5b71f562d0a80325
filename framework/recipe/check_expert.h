// What the expert axis asks of a model and of the number of ranks (docs/numerics.md L1, docs/parallelism.md "Expert").
#pragma once

#include <functional>
#include <string>

#include "framework/recipe/recipe.h"

namespace fourmi::recipe {

using RefuseExpert = std::function<void(const std::string& key, std::string found, std::string expected)>;

/// The first thing that does not fit.
void expert_issues(const Recipe& recipe, const RefuseExpert& refuse);
/// The same of `ranks` ranks, which the other axes divide.
void expert_rank_issues(const Recipe& recipe, std::int64_t ranks, const RefuseExpert& refuse);

}  // namespace fourmi::recipe
