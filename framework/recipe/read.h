// Reading a recipe: file, bases, config.json and overrides into the structs of recipe.h, with every error at once.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "framework/recipe/issue.h"
#include "framework/recipe/origin.h"
#include "framework/recipe/recipe.h"

namespace fourmi {

/// Reads a recipe with its bases, its model.config and overrides ("section.key=value", in order, the later wins),
/// checks it and fills in defaults. Reads nothing else: no data, no devices, no environment. `ranks` > 0 also checks
/// what depends on the number of ranks. `origins` reads what the recipe leaves to model.from; without it a recipe must
/// be complete, as those are that runs keep. Throws RecipeErrors (exit status 2) with every error and its place.
Recipe load_recipe(const std::filesystem::path& path, const std::vector<std::string>& overrides = {}, int ranks = 0,
                   const recipe::Origins& origins = {});

/// The same for a recipe's text, named `name` in messages; relative bases are looked up from the working directory.
Recipe parse_recipe(const std::string& text, const std::string& name = "recipe",
                    const std::vector<std::string>& overrides = {}, int ranks = 0);

/// Checks what depends on the number of ranks (axis sizes, parallel.data, batch sizes); places are keys. Throws
/// RecipeErrors.
void check_ranks(const Recipe& recipe, int ranks);

/// Ranks that each hold a different share of the batch: ranks / (tensor * pipeline * context); 0 if that does not
/// divide.
std::int64_t data_ranks(const ParallelSection& parallel, std::int64_t ranks);

}  // namespace fourmi
