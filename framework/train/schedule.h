// The learning rate over a run. A schedule has its own horizon: it never looks at where the run stops.
#pragma once

#include "framework/recipe/recipe.h"

namespace fourmi {

/// Learning rate of step `step` (from 1), `tokens` being the input positions consumed when the step is complete. With x
/// = step, or tokens where the schedule counts tokens:
///   warm-up: base * x / warmup until x = warmup; then
///   constant: base.   cosine: from warm-up's end to decay_end along half a cosine down to final_ratio * base.
///   linear: the same along a line.   warmup-stable-decay: base until decay_start, then a line down to final_ratio *
///   base at decay_end.
double learning_rate(const OptimizerSection& optimizer, const ScheduleSection& schedule, std::int64_t step,
                     double tokens);

}  // namespace fourmi
