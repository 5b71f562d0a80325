#include "framework/train/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/numerics/math.h"
#include "kernels/runtime/error.h"

namespace fourmi {

ScheduleTurns turns_of(const ScheduleSection& s) {
  const double horizon = static_cast<double>(s.horizon_steps.value_or(0));
  ScheduleTurns t;
  // 0.07 of 100 steps are 7 of them, not 8, however 0.07 * 100 is rounded.
  t.warmup_end = s.warmup_fraction ? std::ceil(*s.warmup_fraction * horizon - 1e-6) : s.warmup_steps;
  if (s.name == "constant") return t;
  t.decay_start = s.name == "warmup-stable-decay" ? s.decay_start_step : t.warmup_end;
  t.decay_end = s.decay_end_step > 0 ? s.decay_end_step : horizon;
  return t;
}

double learning_rate(const OptimizerSection& optimizer, const ScheduleSection& s, std::int64_t step, double tokens) {
  const double base = optimizer.learning_rate;
  const double x = s.in_tokens ? tokens : static_cast<double>(step);
  const ScheduleTurns t = turns_of(s);
  if (x < t.warmup_end) return base * x / t.warmup_end;
  if (s.name == "constant" || x <= t.decay_start) return base;
  const double length = t.decay_end - t.decay_start;
  const double progress = length > 0 ? std::min(1.0, (x - t.decay_start) / length) : 1.0;
  if (s.name != "cosine") return base * (1.0 - progress * (1.0 - s.final_ratio));
  const double cosine = sincos(progress * 3.14159265358979323846).cos;
  return base * (s.final_ratio + (1.0 - s.final_ratio) * 0.5 * (1.0 + cosine));
}

std::string to_text(const ScheduleSection& s) {
  const ScheduleTurns t = turns_of(s);
  const char* unit = s.in_tokens ? "token" : "step";
  std::string text = fmt::format("warm-up to {} {:.0f}, ", unit, t.warmup_end);
  if (s.name == "constant") return text + "constant";
  if (s.name == "warmup-stable-decay") text += fmt::format("stable to {} {:.0f}, ", unit, t.decay_start);
  text += fmt::format("{} to {} {:.0f}", s.name == "cosine" ? "cosine" : "a line", unit, t.decay_end);
  return s.decay_end_step > 0 ? text : text + " (the horizon)";
}

void keep_horizon(const ScheduleSection& recorded, ScheduleSection& now) {
  if (now.has_horizon() && !now.horizon_steps) now.horizon_steps = recorded.horizon_steps;
}

void find_horizon(ScheduleSection& s, std::int64_t run_steps) {
  if (!s.has_horizon()) return;
  if (!s.horizon_steps) s.horizon_steps = run_steps;
  const ScheduleTurns t = turns_of(s);
  if (s.name == "constant" || s.warmup_fraction || t.decay_end > t.warmup_end) return;
  throw Error(ExitStatus::usage, "schedule.warmup_steps",
              fmt::format("a warm-up of {:.0f} steps was found in a run whose epochs have {}, fewer were expected",
                          t.warmup_end, *s.horizon_steps),
              "Shorten the warm-up, or write schedule.decay_end_step");
}

}  // namespace fourmi
