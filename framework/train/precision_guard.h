// The guard of eight bits: now and then a step's micro-batches are computed in bf16 too; where loss or gradient are too
// far apart the layers that are to blame work in bf16 from then on (docs/precision.md "The guard").
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "framework/recipe/recipe.h"
#include "framework/train/engine.h"
#include "framework/train/guard_state.h"
#include "framework/train/narrator.h"

namespace fourmi {

class PrecisionGuard {
 public:
  /// Sees each comparison while the engine still has what operands gave in it.
  using Told = std::function<void(const PrecisionFigures&, const Engine&)>;

  PrecisionGuard(const Recipe& recipe, Narrator& narrator, Told told = nullptr)
      : recipe_(recipe), narrator_(narrator), told_(std::move(told)) {}

  /// Collective; the same on every rank. Makes a step. It is compared with bf16 before it in the run's first, every so
  /// often, and after a step that was not good. One that is not finite is compared before it is judged: where layers of
  /// eight bits are to blame it is made again without them.
  StepResult step(Engine& engine, const ShadowStep& step, GuardState& state, const StepJudge& judge);
  /// Compares, and promotes what is to blame. True if layers were promoted.
  bool check(Engine& engine, const ShadowStep& step, GuardState& state);
  /// Those that were promoted, in a run that goes on.
  static void restore(Engine& engine, const GuardState& state);

 private:
  bool due(const Engine& engine, std::int64_t step, const GuardState& state) const;
  /// How far a gap is past the bounds; 1: at one of them.
  double excess(const PrecisionGap& gap) const;
  /// The layers of operands past their bound; else, of a gap past its, those that are to blame.
  std::vector<std::int64_t> find(Engine& engine, const ShadowStep& step, const PrecisionGap& gap, std::string& why);
  std::vector<std::int64_t> find_in_operands(const Engine& engine, std::string& why);
  std::vector<std::int64_t> find_to_blame(Engine& engine, const ShadowStep& step) const;

  const Recipe& recipe_;
  Narrator& narrator_;
  Told told_;
  PrecisionFigures figures_;
};

}  // namespace fourmi
