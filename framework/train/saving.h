// When the trainer saves, what a checkpoint holds, and what becomes of a save that failed (checkpoint.on_failure).
#pragma once

#include "framework/checkpoint/save.h"
#include "framework/run/lease.h"
#include "framework/run/status.h"
#include "framework/train/engine.h"
#include "framework/train/narrator.h"
#include "framework/train/provenance.h"
#include "framework/train/reporting.h"
#include "framework/train/run_context.h"

namespace fourmi {

class Saving {
 public:
  /// `lease` is rank 0's, null on the others. `saved_step`: the step of the checkpoint that the state came from, -1
  /// without one.
  Saving(const RunContext& context, Narrator& narrator, Reporting& reporting, StatusFile& status, Lease* lease,
         Engine& engine, Provenance& provenance, std::int64_t saved_step);

  /// Collective. Takes the memory that saves in mid-run need, if the recipe asks for such.
  void reserve();
  /// Collective. Is a checkpoint due after this step?
  bool due(const Progress& progress);
  /// Collective. Copies the state and goes on; an older save is finished first.
  void start(const Progress& progress);
  /// Collective, cheap, at a step's end: commits a save whose file work is done on all ranks.
  void poll(const Progress& progress);
  /// Collective. Waits for what is pending.
  void settle_pending(const Progress& progress);
  /// The state is that of `step` again, of a checkpoint or (-1) the beginning's.
  void rolled_back(std::int64_t saved_step) { saved_step_ = saved_step; }
  /// Of the newest checkpoint that this state came from or went to; -1 without one.
  std::int64_t saved_step() const { return saved_step_; }
  /// Collective. Waits for what is pending, and saves the last state if it has no checkpoint.
  void finish(const Progress& progress);

 private:
  void settle(const SaveOutcome& outcome, const Progress& progress);

  const RunContext& context_;
  Narrator& narrator_;
  Reporting& reporting_;
  StatusFile& status_;
  Lease* lease_;
  Engine& engine_;
  Provenance& provenance_;
  CheckpointSaver saver_;
  std::int64_t saved_step_;
  Clock::time_point last_save_ = Clock::now();
};

}  // namespace fourmi
