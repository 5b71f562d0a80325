// What all parts of the trainer work on, and where the run is. No logic: the parts are trainer (the loop), saving,
// reporting, stopping.
#pragma once

#include <chrono>
#include <filesystem>

#include "framework/recipe/recipe.h"
#include "framework/train/spending.h"
#include "framework/train/training_state.h"
#include "kernels/runtime/stream.h"
#include "parallel/group.h"

namespace fourmi {

struct RunContext {
  const Recipe& recipe;
  Group& group;
  const Stream& stream;
  std::filesystem::path directory;
  const Spending* spending =
      nullptr;  ///< from the moment that the launch is known; what it says counts on rank 0 alone
  bool first() const { return group.rank() == 0; }
};

struct Progress {
  std::int64_t launch = 1;
  std::int64_t started_at = 0;  ///< the step that this launch began after
  std::int64_t step = 0;        ///< complete
  std::int64_t last_step = 0;   ///< the run's target
  std::int64_t tokens = 0;      ///< input positions of the complete steps, all launches
  TrainingState state;          ///< after `step`

  bool done() const { return step >= last_step; }
  bool due(std::int64_t every) const { return every > 0 && step % every == 0; }
};

using Clock = std::chrono::steady_clock;
inline double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

}  // namespace fourmi
