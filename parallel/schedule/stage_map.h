// Which layers each stage of a pipeline holds.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fourmi {

/// Layers [begin, end) of a stage.
struct StageLayers {
  int begin = 0, end = 0;
  int size() const { return end - begin; }
  bool operator==(const StageLayers&) const = default;
};

/// Cuts a row of layers into `num_stages` runs, none empty, such that the dearest stage is as cheap as can be, and
/// among those cuts the sum of squares least (so that the others are even too). `layers`: the cost of each; `first` and
/// `last`: of what the first and the last stage do besides (embedding; head and what follows it), in the same unit.
/// Throws Error(usage) where there are fewer layers than stages.
std::vector<StageLayers> balance_layers(std::span<const double> layers, int num_stages, double first, double last);

/// The same from the numbers of layers that a recipe gives. Throws Error(usage) naming key, found and expected unless
/// there is one positive number a stage and their sum is `num_layers`.
std::vector<StageLayers> given_layers(std::span<const std::int64_t> sizes, int num_stages, int num_layers);

}  // namespace fourmi
