#include "framework/telemetry/expert_load.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/runtime/error.h"

namespace fourmi {

LayerLoad layer_load(std::int64_t layer, std::span<const std::int64_t> counts, std::span<const double> bias) {
  LayerLoad load{.layer = layer};
  const auto total = static_cast<double>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}));
  if (total > 0) {
    const auto E = static_cast<double>(counts.size());
    load.max_over_mean = static_cast<double>(*std::max_element(counts.begin(), counts.end())) * E / total;
    double entropy = 0;
    for (const std::int64_t count : counts) {
      const double share = static_cast<double>(count) / total;
      if (count > 0) entropy -= share * std::log(share);
    }
    load.entropy = counts.size() > 1 ? std::clamp(entropy / std::log(E), 0.0, 1.0) : 1;
    load.dead = std::count(counts.begin(), counts.end(), 0);
  }
  if (!bias.empty()) {
    const auto [least, most] = std::minmax_element(bias.begin(), bias.end());
    load.bias_max = std::max(std::abs(*least), std::abs(*most));
    load.bias_spread = *most - *least;
  }
  return load;
}

double LoadSummary::worst_max_over_mean() const {
  double worst = 1;
  for (const LayerLoad& l : layers) worst = std::max(worst, l.max_over_mean);
  return worst;
}

std::int64_t LoadSummary::dead() const {
  std::int64_t sum = 0;
  for (const LayerLoad& l : layers) sum += l.dead;
  return sum;
}

ExpertLoadWindow::ExpertLoadWindow(std::vector<std::int64_t> layers, std::int64_t num_experts)
    : layers_(std::move(layers)),
      num_experts_(static_cast<std::size_t>(num_experts)),
      counts_(layers_.size() * static_cast<std::size_t>(num_experts), 0) {}

void ExpertLoadWindow::add(std::span<const std::int64_t> counts) {
  FOURMI_CHECK(counts.size() == counts_.size(), "{} counts for {} layers of {} experts", counts.size(), layers_.size(),
               num_experts_);
  for (std::size_t i = 0; i < counts.size(); ++i) counts_[i] += counts[i];
  ++steps_;
}

LoadSummary ExpertLoadWindow::close(std::span<const double> biases) {
  LoadSummary summary{.steps = steps_, .layers = {}};
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const std::span<const std::int64_t> counts =
        std::span<const std::int64_t>(counts_).subspan(l * num_experts_, num_experts_);
    summary.layers.push_back(
        layer_load(layers_[l], counts, biases.empty() ? biases : biases.subspan(l * num_experts_, num_experts_)));
  }
  std::fill(counts_.begin(), counts_.end(), 0);
  steps_ = 0;
  return summary;
}

std::string to_json_line(std::int64_t step, std::int64_t launch, const LoadSummary& load) {
  std::string layers;
  for (const LayerLoad& l : load.layers)
    layers +=
        fmt::format(R"({}{{"layer":{},"max_over_mean":{},"entropy":{},"dead":{},"bias_max":{},"bias_spread":{}}})",
                    layers.empty() ? "" : ",", l.layer, l.max_over_mean, l.entropy, l.dead, l.bias_max, l.bias_spread);
  return fmt::format(R"({{"step":{},"steps":{},"max_over_mean":{},"dead":{},"layers":[{}],"launch":{}}})", step,
                     load.steps, load.worst_max_over_mean(), load.dead(), layers, launch);
}

Scalars to_scalars(const LoadSummary& load) {
  Scalars scalars;
  for (const LayerLoad& l : load.layers) {
    const std::string place = fmt::format("experts/layer-{:02}/", l.layer);
    scalars.emplace_back(place + "max_over_mean", l.max_over_mean);
    scalars.emplace_back(place + "entropy", l.entropy);
    scalars.emplace_back(place + "dead", static_cast<double>(l.dead));
    scalars.emplace_back(place + "bias_max", l.bias_max);
    scalars.emplace_back(place + "bias_spread", l.bias_spread);
  }
  scalars.emplace_back("experts/dead", static_cast<double>(load.dead()));
  return scalars;
}

}  // namespace fourmi
