#include "framework/telemetry/time_split.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace fourmi {

std::vector<std::pair<std::string, double>> time_figures(const Timeline::Nanoseconds& step) {
  std::vector<std::pair<std::string, double>> figures;
  for (std::size_t i = 0; i < num_works; ++i) {
    const double seconds = std::round(static_cast<double>(step[i]) / 1e3) / 1e6;
    if (seconds > 0) figures.emplace_back(fmt::format("time_{}", name_of(static_cast<Work>(i))), seconds);
  }
  return figures;
}

std::string time_text(const Timeline::Nanoseconds& nanoseconds) {
  std::array<std::size_t, num_works> order{};
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    constexpr auto other = static_cast<std::size_t>(Work::other);
    return (a == other) != (b == other) ? b == other : nanoseconds[a] > nanoseconds[b];
  });
  const double all = static_cast<double>(std::accumulate(nanoseconds.begin(), nanoseconds.end(), std::int64_t{0}));
  std::string text;
  for (const std::size_t i : order) {
    const double percent = all > 0 ? 100 * static_cast<double>(nanoseconds[i]) / all : 0;
    if (percent >= 0.5)
      text += fmt::format("{}{} {:.0f}%", text.empty() ? "" : "  ", name_of(static_cast<Work>(i)), percent);
  }
  return text;
}

}  // namespace fourmi
