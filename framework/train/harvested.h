// Sources of data.train that `fourmi teacher harvest` wrote: whether the harvest came to its end, and whether its
// messages are still those that it wrote.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "framework/ledger/facts.h"
#include "framework/ledger/harvest_fact.h"
#include "framework/recipe/recipe.h"
#include "kernels/runtime/error.h"

namespace fourmi {

/// One Error(usage) for each source whose harvest has not come to its end, naming counts and the command that goes on.
/// Throws Error(input) for the output of this recipe's own harvest where there is none yet.
std::vector<Error> unfinished_harvests(const Recipe& recipe);

/// Throws the first of them, or gives them to `warn` with distill.allow_incomplete.
void check_harvests(const Recipe& recipe, const std::function<void(const std::string&)>& warn);

/// Who wrote the texts of the recipe's sources, as their harvests say. Throws Error(input) for one that cannot be read.
std::vector<TeacherFact> teachers_of_harvests(const Recipe& recipe);

/// Did harvests write all of these files, and say their digests?
bool has_harvest_digest(std::span<const std::filesystem::path> files);

/// The harvests that wrote files of the source, tied to it. Where all were harvested, the source's digest is theirs.
/// Throws Error(input) for messages that are no longer those that were written.
std::vector<HarvestFact> harvests_of(DatasetFact& source);

}  // namespace fourmi
