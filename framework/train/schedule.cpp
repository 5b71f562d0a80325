#include "framework/train/schedule.h"

#include <algorithm>

#include "kernels/numerics/math.h"

namespace fourmi {

double learning_rate(const OptimizerSection& optimizer, const ScheduleSection& s, std::int64_t step, double tokens) {
  const double base = optimizer.learning_rate;
  const double x = s.in_tokens ? tokens : static_cast<double>(step);
  if (x < s.warmup_steps) return base * x / s.warmup_steps;
  if (s.name == "constant") return base;
  const double start = s.name == "warmup-stable-decay" ? s.decay_start_step : s.warmup_steps;
  if (x <= start) return base;
  const double progress = s.decay_end_step > start ? std::min(1.0, (x - start) / (s.decay_end_step - start)) : 1.0;
  if (s.name != "cosine") return base * (1.0 - progress * (1.0 - s.final_ratio));
  const double cosine = sincos(progress * 3.14159265358979323846).cos;
  return base * (s.final_ratio + (1.0 - s.final_ratio) * 0.5 * (1.0 + cosine));
}

}  // namespace fourmi
