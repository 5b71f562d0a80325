// README.md of an exported model: what is known of it, from the checkpoint, its ledger and its run. No advice, no
// praise.
#pragma once

#include <string>

#include "framework/interop/card_facts.h"
#include "framework/recipe/recipe.h"

namespace fourmi::interop {

/// What no file tells is said to be unknown. Every name in it is text from outside and stands as such.
std::string model_card(const Checkpoint& checkpoint, const Recipe& recipe, const CardFacts& facts,
                       const std::string& dtype);

}  // namespace fourmi::interop
