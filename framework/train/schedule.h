// The learning rate over a run. A schedule has its own horizon: where the run stops moves nothing.
#pragma once

#include <string>

#include "framework/recipe/recipe.h"

namespace fourmi {

/// Where the learning rate turns, in steps, or in tokens where the schedule counts tokens. A share of the horizon is
/// rounded up. What is counted by a horizon needs it: ScheduleSection::horizon_steps.
struct ScheduleTurns {
  double warmup_end = 0, decay_start = 0, decay_end = 0;  ///< without a decay both are 0
};
ScheduleTurns turns_of(const ScheduleSection& schedule);

/// Learning rate of step `step` (from 1), `tokens` being the input positions consumed when the step is complete. With x
/// = step, or tokens where the schedule counts tokens:
///   warm-up: base * x / warmup until x = warmup; then
///   constant: base.   cosine: from warm-up's end to decay_end along half a cosine down to final_ratio * base.
///   linear: the same along a line.   warmup-stable-decay: base until decay_start, then a line down to final_ratio *
///   base at decay_end.
double learning_rate(const OptimizerSection& optimizer, const ScheduleSection& schedule, std::int64_t step,
                     double tokens);

/// "warm-up to step 3, cosine to step 100 (the horizon)"
std::string to_text(const ScheduleSection& schedule);

/// Takes the horizon of the run that this one goes on with, where the new schedule needs one and names none.
void keep_horizon(const ScheduleSection& recorded, ScheduleSection& now);
/// Makes the horizon definite: `run_steps` are those of the whole run, as a first launch knows them. Throws
/// Error(usage) where the warm-up takes all of it.
void find_horizon(ScheduleSection& schedule, std::int64_t run_steps);

}  // namespace fourmi
