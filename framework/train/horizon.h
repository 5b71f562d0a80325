// Where a run ends: after run.steps steps; with the first step that brings the input tokens to run.tokens; or where
// every source has been read run.epochs times.
#pragma once

#include <cstdint>
#include <limits>

#include "framework/data/loader.h"

namespace fourmi {

class Horizon {
 public:
  Horizon(const Recipe& recipe, const Loader& loader) : recipe_(&recipe), loader_(&loader) {}

  /// Of a run that has made `step` steps and is at `position`: `step` if it is over, else its last step, as far as can
  /// be told now. Exact for run.steps; for the others an estimate from the sources' mean sample until the run is over.
  std::int64_t last_step(std::int64_t step, const Position& position) const;
  /// Input tokens that are still to be read, as far as can be told.
  double tokens_left(std::int64_t step, const Position& position) const;
  /// Throws Error(input) if what is left takes any source beyond data.repeat.
  void check_repeat(std::int64_t step, const Position& position) const;

 private:
  bool over(const Position& position) const;
  /// Steps of the ramp from `tokens` on, as long as `tokens_left` and `steps_left` last; what the steps read.
  struct Stretch {
    std::int64_t steps = 0;
    double tokens = 0;
  };
  Stretch stretch(double tokens, double tokens_left,
                  std::int64_t steps_left = std::numeric_limits<std::int64_t>::max()) const;

  const Recipe* recipe_;
  const Loader* loader_;
};

}  // namespace fourmi
