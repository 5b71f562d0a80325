// How a launch begins, by what run.directory holds and what the recipe wishes:
//
//   directory        checkpoint.resume   the launch
//   holds no run     auto, never         begins
//   holds no run     PATH                branches: everything of that checkpoint, metrics up to its step copied; keys
//   of class asked may
//                                        differ, fixed ones may not
//   holds a run      auto                goes on; asked keys may differ with --accept-changes only, fixed ones never
//   holds a run      never               is refused
//   holds a run      PATH                goes on if this run branched from PATH, so that the same command goes on; else
//   is refused
//
// Rank 0 decides while it holds the lease; the others are told.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "framework/recipe/compare.h"
#include "framework/run/launches.h"

namespace fourmi {

/// "optimizer.learning_rate: 0.006 -> 0.003"
std::string to_string(const ChangedKey& change);

/// Which keys of the new recipe differ from those of the recorded one (a recipe.yaml). May throw Error if that cannot
/// be read.
using CompareWithRecorded = std::function<std::vector<ChangedKey>(const std::filesystem::path& recorded)>;

struct StartWish {
  std::filesystem::path directory;  ///< run.directory
  std::string resume = "auto";      ///< checkpoint.resume: auto, never, or a checkpoint or run directory
  bool accept_changes = false;
};

struct StartDecision {
  enum class Kind { fresh, go_on, branch };
  Kind kind = Kind::fresh;
  /// Branch: the checkpoint (or run directory) to start from. Go on: the one that the run once branched from, which
  /// counts only while the run has no checkpoint of its own; empty if the run is no branch.
  std::filesystem::path branch_from;
  std::vector<ChangedKey> changes;  ///< against the recorded recipe: to be printed, and kept
};

/// Throws Error(usage) naming key, both values and the remedies; Error(input) if the directory is damaged or PATH is
/// absent.
StartDecision decide_start(const StartWish& wish, const CompareWithRecorded& compare);

/// Makes the beginning last before the first step, in an order in which the same command begins rightly again after a
/// kill anywhere: copied metrics (branch), launches/<n>.yaml, recipe.yaml. `record.step` is the step that the launch
/// starts after; started_as, branched_from and changes of the record are filled from the decision. Throws
/// Error(environment).
void record_start(const std::filesystem::path& directory, const StartDecision& decision, LaunchRecord record);

/// Does the directory hold a run? (It holds recipe.yaml.)
bool holds_run(const std::filesystem::path& directory);

/// The run that a checkpoint or run directory belongs to; empty if it stands alone.
std::filesystem::path run_of(const std::filesystem::path& checkpoint_or_run);

}  // namespace fourmi
