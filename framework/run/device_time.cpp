#include "framework/run/device_time.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "framework/run/files.h"
#include "kernels/runtime/error.h"

namespace fourmi {

namespace {

double hours_in(const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("device_hours") || !json["device_hours"].is_number()) return 0;
  const double hours = json["device_hours"].get<double>();
  return std::isfinite(hours) && hours > 0 ? hours : 0;
}

/// The last line that ends in a line break: a kill may have torn the one after it.
std::string last_line(const std::string& text) {
  const std::size_t end = text.rfind('\n');
  if (end == std::string::npos) return {};
  const std::size_t begin = end == 0 ? std::string::npos : text.rfind('\n', end - 1);
  return text.substr(begin + 1, end - begin - 1);
}

}  // namespace

double recorded_device_hours(const std::filesystem::path& run_directory) {
  double hours = 0;
  try {
    if (const auto status = files::read(run_directory / "status.json")) hours = hours_in(*status);
    if (const auto metrics = files::read(run_directory / "metrics.jsonl"))
      hours = std::max(hours, hours_in(last_line(*metrics)));
  } catch (const Error&) {
    // What cannot be read is said by those who need it.
  }
  return hours;
}

}  // namespace fourmi
