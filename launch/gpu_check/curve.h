// The losses of the same steps on two devices.
#pragma once

#include <string>
#include <vector>

#include "launch/gpu_check/part.h"
#include "launch/gpu_check/places.h"

namespace fourmi::gpu_check {

/// Of a run's metrics.jsonl, in order; up to the first line that is none. Empty: no such file.
std::vector<double> losses_of(const std::string& metrics_file);

struct CurveLimits {
  std::size_t steps = 200;
  double first = 0.01;  ///< nats that the first step's losses may differ by: same weights, same tokens
  double last = 0.05;   ///< nats that the means of the last quarter may differ by
};
/// Passed if both have all steps, every loss is finite, and the differences are within the limits.
Outcome compare_curves(const std::vector<double>& gpu, const std::vector<double>& cpu, const CurveLimits& limits);

/// The command of one of the two runs, in `directory`.
std::vector<std::string> curve_words(const Places& places, const std::string& device, const std::string& directory,
                                     std::size_t steps);

}  // namespace fourmi::gpu_check
