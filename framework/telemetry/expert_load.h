// How evenly the router of each layer loads its experts: `expert_load.jsonl`, one line a window of steps.
//
// A window's counts are sums over its steps of the whole global batch's choices. Per MoE layer: max over mean (1: even;
// E: one expert has all), entropy of the shares over ln E (1: even; 0: one has all), dead experts (none of the window's
// tokens), and of the correction bias the greatest magnitude and the spread (max - min; only differences steer the
// choice).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "framework/run/step_log.h"
#include "framework/telemetry/event_file.h"

namespace fourmi {

struct LayerLoad {
  std::int64_t layer = 0;
  double max_over_mean = 1, entropy = 1;
  std::int64_t dead = 0;
  double bias_max = 0, bias_spread = 0;
};

/// Of counts[e] >= 0; without any choice 1, 1 and 0 dead: nothing is known to be uneven. `bias` is empty where the
/// router has none.
LayerLoad layer_load(std::int64_t layer, std::span<const std::int64_t> counts, std::span<const double> bias);

struct LoadSummary {
  std::int64_t steps = 0;  ///< of the window
  std::vector<LayerLoad> layers;
  double worst_max_over_mean() const;
  std::int64_t dead() const;  ///< of all layers together
};

/// Adds up counts until a window ends.
class ExpertLoadWindow {
 public:
  /// `layers`: the number of each MoE layer, in the order of the counts.
  ExpertLoadWindow(std::vector<std::int64_t> layers, std::int64_t num_experts);
  /// One step's counts, [layers, experts].
  void add(std::span<const std::int64_t> counts);
  /// The window so far, and a new one. `biases`: [layers, experts], or empty.
  LoadSummary close(std::span<const double> biases);

 private:
  std::vector<std::int64_t> layers_;
  std::size_t num_experts_;
  std::int64_t steps_ = 0;
  std::vector<std::int64_t> counts_;
};

std::string to_json_line(std::int64_t step, std::int64_t launch, const LoadSummary& load);
/// "experts/layer-03/max_over_mean" ...
Scalars to_scalars(const LoadSummary& load);

}  // namespace fourmi
