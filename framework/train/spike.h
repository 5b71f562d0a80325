// Spikes: a gradient norm or a loss far above those of the last good steps, by a robust statistic (docs/guard.md). Pure
// functions of a history that is part of the training state, so that every rank decides alike and a resumed run decides
// as the undisturbed one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fourmi {

/// Good steps, oldest first; at most the recipe's window.
struct SpikeHistory {
  std::int64_t num_good = 0;  ///< all good steps since the history began, also those that it no longer holds
  std::int64_t in_a_row = 0;  ///< spikes since the last good step
  std::vector<double> log_norms, losses;
  bool operator==(const SpikeHistory&) const = default;
};

struct SpikeRule {
  double z = 8;               ///< robust standard deviations above the median
  std::int64_t window = 200;  ///< good steps
};

/// What is above all others; `z` 0 where nothing can be said yet (fewer good steps than half a window).
struct SpikeFinding {
  bool is_spike = false;
  const char* what = "gradient norm";  ///< or "loss"
  double value = 0, median = 0, z = 0;
};

/// Compares a step's figures (finite) with the history: the distance from the median of the last 16 good steps, in
/// units of 1.4826 times the median absolute deviation over the last min(window, num_good / 2). The norm is compared by
/// its logarithm. A unit is at least 0.1 for the norm's logarithm, and 2% of the loss. `scratch` is kept
/// for its memory: from the second call on nothing is allocated.
SpikeFinding find_spike(const SpikeHistory& history, const SpikeRule& rule, double grad_norm, double loss,
                        std::vector<double>& scratch);

/// Adds a good step.
void add_good_step(SpikeHistory& history, const SpikeRule& rule, double grad_norm, double loss);

/// "gradient norm 31.4, expected below 4.2 ..." for messages: the value, the median and how far it is.
std::string to_string(const SpikeFinding& finding, const SpikeRule& rule);

}  // namespace fourmi
