// The guard: what becomes of a step, decided before its update, on figures that all ranks share (docs/guard.md).
#pragma once

#include <string>
#include <vector>

#include "framework/recipe/recipe.h"
#include "framework/train/engine.h"
#include "framework/train/guard_state.h"
#include "framework/train/narrator.h"

namespace fourmi {

class Guard {
 public:
  enum class Verdict { update, skip, rollback };

  Guard(const GuardSection& section, Narrator& narrator) : section_(section), narrator_(narrator) {}

  /// Judges step `step` and adds a good one to the history. Throws Error(guard) where the recipe says stop, where
  /// skipping cannot help (a weight is not finite), and where the last skips in a row were too many. The same on every
  /// rank.
  Verdict judge(const StepResult& result, std::int64_t step, GuardState& state);

  /// Of the last step that was not good.
  const std::string& why() const { return why_; }
  /// How far the last step's worst figure was above the median, if it was a spike; else 0.
  double spike_z() const { return spike_z_; }

 private:
  const GuardSection& section_;
  Narrator& narrator_;
  std::string why_;
  double spike_z_ = 0;
  std::vector<double> scratch_;
};

}  // namespace fourmi
