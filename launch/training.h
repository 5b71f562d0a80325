// One process' part of `fourmi train`: world, watchdog, trainer; and what becomes of an error on one rank or of a lost
// peer.
#pragma once

#include <functional>
#include <string>

#include "framework/recipe/recipe.h"
#include "framework/train/engine.h"
#include "framework/train/phase.h"
#include "kernels/runtime/error.h"
#include "parallel/launcher.h"

namespace fourmi {

struct TrainingArguments {
  bool accept_changes = false;
  std::string command;     ///< the words of the command line, for the record
  PhaseObserver observer;  ///< called on this rank as it enters each phase; tests break a rank there
  std::function<void(Engine&)> engine_ready = nullptr;  ///< called on this rank when its engine is made; tests break it
};

/// Does not return where a rank failed or was lost: the process then ends at once, with the contract's exit status,
/// after the rank that knows has written status.json and the error's line.
ExitStatus train_here(const Recipe& recipe, const LaunchInfo& launch, const TrainingArguments& arguments);

}  // namespace fourmi
