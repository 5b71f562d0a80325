// Which tokenizer made token files, as their side file PREFIX.json tells (fourmi tokenize writes it): ids of another
// one are below the vocabulary's size too, and mean something else.
#pragma once

#include <string>

#include "framework/data/sources.h"
#include "framework/recipe/recipe.h"

namespace fourmi {

/// Throws Error(input) at `place` if a token file of the source was made with another tokenizer than the recipe's. What
/// has no side file, or one that does not say it, is taken as it is; so is all, as long as data.tokenizer is not pinned
/// (tokenizer/choose.h).
void check_made_with(const LoadedSource& source, const DataSection& data, const std::string& place);

}  // namespace fourmi
