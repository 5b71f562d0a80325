// README.md of an exported model: what is known of it, from the checkpoint and its ledger. No advice, no praise.
#pragma once

#include <filesystem>
#include <string>

#include "framework/checkpoint/load.h"
#include "framework/recipe/recipe.h"

namespace fourmi::interop {

/// `ledger`: of the checkpoint's run; what it does not tell is said to be unknown. Every name in it is text from
/// outside and stands as such.
std::string model_card(const Checkpoint& checkpoint, const Recipe& recipe, const std::filesystem::path& ledger,
                       const std::string& dtype);

}  // namespace fourmi::interop
