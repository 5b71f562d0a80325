// What a run has used up: device hours, over all its launches. A device hour is an hour of wall-clock time of one rank,
// from the moment its launch owns the run directory to its end, whatever it did in it; a rank on the CPU counts as a
// device.
//
// status.json and every line of metrics.jsonl say the sum so far. A launch begins with the larger of the two, so a kill
// loses at most the time since the last step (or since the launch began, if it was killed within the first seconds).
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>

namespace fourmi {

class DeviceTime {
 public:
  DeviceTime() = default;
  /// Begins now, on `ranks` ranks, after `hours_before` of earlier launches.
  DeviceTime(double hours_before, std::int64_t ranks) : before_(hours_before), ranks_(static_cast<double>(ranks)) {}

  /// Device hours of all launches up to now.
  double hours() const {
    return before_ + ranks_ * std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count() / 3600;
  }

 private:
  double before_ = 0, ranks_ = 0;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

/// What earlier launches used up. To be asked before this launch writes its first status; what is damaged counts as 0.
double recorded_device_hours(const std::filesystem::path& run_directory);

}  // namespace fourmi
