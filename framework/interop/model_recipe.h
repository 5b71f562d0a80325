// The recipe that stands for a model which no recipe made: its architecture from config.json, and enough beside it to
// evaluate, to write text, and to begin a run with.
#pragma once

#include <filesystem>
#include <string>

#include "framework/recipe/recipe.h"

namespace fourmi::interop {

struct ImportedAs {
  std::string name;                 ///< any text: what run.name cannot have becomes `-`
  std::string tokenizer = "bytes";  ///< as data.tokenizer
  Compute compute = Compute::bf16;
};

/// Sequences of an imported model have at most so many tokens until a recipe says otherwise.
inline constexpr std::int64_t most_tokens = 2048;

/// `config` is a config.json. Throws RecipeErrors (exit status 2) with every key that is not built, and its place.
Recipe model_recipe(const std::filesystem::path& config, const ImportedAs& as);

/// How a config.json says that weights are stored: F8_E4M3 with a scale for each block of 128 x 128, or not quantised
/// at all. Throws Error(input) naming any other way.
bool has_fp8_blocks(const std::filesystem::path& config);

}  // namespace fourmi::interop
