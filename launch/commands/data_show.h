// fourmi data show: what a recipe's training reads, as a person can read it.
#pragma once

#include <cstdint>

#include "framework/recipe/recipe.h"

namespace fourmi {

/// Prints the run's first `num_samples` samples, decoded, and the counts of every source, to standard output.
/// `colours`: even if that is no terminal.
void show_data(const Recipe& recipe, std::int64_t num_samples, bool json, bool colours);

}  // namespace fourmi
