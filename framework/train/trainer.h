// A training run on its directory: begins, goes on or branches, steps, evaluates, saves, stops. The mathematics of a
// step is the engine's; this is everything around it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "framework/recipe/recipe.h"
#include "framework/run/launches.h"
#include "framework/run/status.h"
#include "framework/train/engine.h"
#include "framework/train/phase.h"
#include "kernels/runtime/error.h"
#include "kernels/runtime/stream.h"
#include "parallel/group.h"

namespace fourmi {

struct TrainOptions {
  bool accept_changes = false;
  /// What launches/<n>.yaml is to say of this program; number, hosts, recipe and the start are filled in.
  LaunchRecord record;
  /// Called on every rank as it enters a phase; for the watchdog, and for tests that break a rank there.
  PhaseObserver observer;
  /// Called once on every rank when the engine is made, before its state is loaded; for tests that put a fault into it.
  std::function<void(Engine&)> engine_ready;
  /// Called once on every rank when the run's directory and launch are known, so that a watchdog can write status.json.
  /// The pointer is valid until the trainer is gone.
  std::function<void(StatusFile*)> status_ready;
};

/// Throws Error(usage) for what recipes may say and this build cannot train.
void require_trainable(const Recipe& recipe);

class Trainer {
 public:
  Trainer(const Recipe& recipe, Group& group, const Stream& stream, TrainOptions options);
  ~Trainer();

  /// Until the target is reached (ok), a stop was asked for (stopped: StopSignals, which the caller keeps, or
  /// run.time), or an Error.
  ExitStatus run();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fourmi
