// Are the pairs of a schedule done phase by phase, or one half after the other? Interleaved has pairs only where they
// are done phase by phase. A pure function of the recipe, so all ranks decide alike, before the first step, and say so
// (docs/pairs.md).
#pragma once

#include <string>

#include "framework/recipe/recipe.h"
#include "parallel/schedule/program.h"

namespace fourmi {

struct PairRule {
  Pairs how = Pairs::in_turn;
  std::string why;  ///< for people; empty where the schedule has no pairs
};

/// "pairs: phase by phase (...)": one line, for the beginning of a run and for a dry run.
std::string to_text(const PairRule& rule);

/// Throws Error(usage) where parallel.overlap_pairs asks for what this recipe cannot have.
PairRule pair_rule(const Recipe& recipe);

}  // namespace fourmi
