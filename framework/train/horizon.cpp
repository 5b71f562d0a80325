#include "framework/train/horizon.h"

#include <algorithm>
#include <cmath>

namespace fourmi {

bool Horizon::over(const Position& position) const {
  const RunSection& run = recipe_->run;
  if (run.tokens) return static_cast<double>(position.tokens) >= *run.tokens;
  return run.epochs && loader_->finished(position, *run.epochs);
}

Horizon::Stretch Horizon::stretch(double tokens, double tokens_left, std::int64_t steps_left) const {
  const auto& ramp = recipe_->data.global_batch_size.over_tokens.steps;
  const double begin = tokens, end = tokens + tokens_left, a_sample = loader_->tokens_per_sample();
  Stretch all;
  while (tokens < end && all.steps < steps_left) {
    double edge = end, size = 0;  // sequences a step, and where the ramp changes it
    for (const auto& [from, sequences] : ramp)
      if (from <= tokens)
        size = sequences;
      else
        edge = std::min(edge, from);
    const double a_step = size * a_sample;
    const double steps = std::min(std::max(1.0, std::ceil((edge - tokens) / a_step - 1e-9)),
                                  static_cast<double>(steps_left - all.steps));
    all.steps += static_cast<std::int64_t>(steps);
    tokens += steps * a_step;
  }
  all.tokens = tokens - begin;
  return all;
}

double Horizon::tokens_left(std::int64_t step, const Position& position) const {
  const RunSection& run = recipe_->run;
  const double tokens = static_cast<double>(position.tokens), endless = 1e18;
  if (run.steps) return stretch(tokens, endless, std::max<std::int64_t>(0, *run.steps - step)).tokens;
  if (over(position)) return 0;
  if (run.tokens) return stretch(tokens, *run.tokens - tokens).tokens;
  // The source that is furthest from its end decides.
  double left = 0;
  for (std::int64_t i = 0; i < loader_->num_sources(); ++i) {
    const SourcePosition& source = position.sources[static_cast<std::size_t>(i)];
    const double windows = static_cast<double>(loader_->samples_per_epoch(i));
    const double passes = *run.epochs - static_cast<double>(source.epoch) - static_cast<double>(source.index) / windows;
    if (loader_->share(i) > 0)
      left = std::max(left, passes * static_cast<double>(loader_->tokens_per_epoch(i)) / loader_->share(i));
  }
  return left;
}

std::int64_t Horizon::last_step(std::int64_t step, const Position& position) const {
  if (recipe_->run.steps) return *recipe_->run.steps;
  if (over(position)) return step;
  const double tokens = static_cast<double>(position.tokens);
  return step + std::max<std::int64_t>(1, stretch(tokens, tokens_left(step, position)).steps);
}

void Horizon::check_repeat(std::int64_t step, const Position& position) const {
  loader_->check_repeat(position, tokens_left(step, position));
}

}  // namespace fourmi
