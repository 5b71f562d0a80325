#include "parallel/schedule/stage_map.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "kernels/runtime/error.h"

namespace fourmi {

std::vector<StageLayers> balance_layers(std::span<const double> layers, int num_stages, double first, double last) {
  const int L = static_cast<int>(layers.size()), S = num_stages;
  if (L < S)
    throw Error(ExitStatus::usage, "parallel.pipeline",
                fmt::format("found {} stages for {} layers, expected at least one layer a stage", S, L),
                fmt::format("At most {} stages", L));
  std::vector<double> before(layers.size() + 1, 0);  // cost of the layers before each
  std::partial_sum(layers.begin(), layers.end(), before.begin() + 1);
  const auto cost = [&](int stage, int begin, int end) {
    return before[static_cast<std::size_t>(end)] - before[static_cast<std::size_t>(begin)] + (stage == 0 ? first : 0) +
           (stage == S - 1 ? last : 0);
  };
  // best[s][e]: the best cut of layers [0, e) into stages 0 ... s; compared by its dearest stage, then by the sum of
  // squares.
  struct Best {
    double dearest = std::numeric_limits<double>::infinity(), squares = dearest;
    int begin = -1;
  };
  std::vector<std::vector<Best>> best(static_cast<std::size_t>(S), std::vector<Best>(layers.size() + 1));
  const auto at = [&](int s, int e) -> Best& { return best[static_cast<std::size_t>(s)][static_cast<std::size_t>(e)]; };
  for (int s = 0; s < S; ++s)
    for (int end = s + 1; end <= L - (S - 1 - s); ++end)
      for (int begin = s; begin < end; ++begin) {
        if (s == 0 && begin > 0) break;
        const double mine = cost(s, begin, end);
        const double dearest = s == 0 ? mine : std::max(mine, at(s - 1, begin).dearest);
        const double squares = mine * mine + (s == 0 ? 0 : at(s - 1, begin).squares);
        Best& b = at(s, end);
        if (dearest < b.dearest || (dearest == b.dearest && squares < b.squares)) b = {dearest, squares, begin};
      }
  std::vector<StageLayers> stages(static_cast<std::size_t>(S));
  for (int s = S - 1, end = L; s >= 0; --s) {
    stages[static_cast<std::size_t>(s)] = {at(s, end).begin, end};
    end = at(s, end).begin;
  }
  return stages;
}

std::vector<StageLayers> given_layers(std::span<const std::int64_t> sizes, int num_stages, int num_layers) {
  const auto sum = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
  const bool positive = std::all_of(sizes.begin(), sizes.end(), [](std::int64_t n) { return n >= 1; });
  if (std::ssize(sizes) != num_stages || sum != num_layers || !positive) {
    std::string found;
    for (std::int64_t n : sizes) found += (found.empty() ? "" : ", ") + std::to_string(n);
    throw Error(ExitStatus::usage, "parallel.stage_layers",
                fmt::format("found [{}], expected {} positive numbers that sum to the {} layers", found, num_stages,
                            num_layers));
  }
  std::vector<StageLayers> stages;
  for (int begin = 0; std::int64_t n : sizes) {
    stages.push_back({begin, begin + static_cast<int>(n)});
    begin = stages.back().end;
  }
  return stages;
}

}  // namespace fourmi
