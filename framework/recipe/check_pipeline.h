// What a pipeline's keys must be to one another, to the model and to the batch.
#pragma once

#include <functional>
#include <string>

#include "framework/recipe/recipe.h"

namespace fourmi::recipe {

/// One error: key, found, expected, remedy.
using RefusePipeline = std::function<void(const std::string&, std::string, std::string, std::string)>;

/// What can be said without the number of ranks.
void pipeline_issues(const Recipe& recipe, const RefusePipeline& refuse);
/// What the schedule demands of the number of micro-batches on so many data ranks, at each size of the batch. Says
/// nothing where pipeline_issues() has something to say.
void micro_batch_issues(const Recipe& recipe, std::int64_t data_ranks, const RefusePipeline& refuse);

}  // namespace fourmi::recipe
