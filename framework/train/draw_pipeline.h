// What a dry run shows of a pipeline: who holds which layers, and the simulated timeline of a step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/recipe/recipe.h"

namespace fourmi {

struct PipelineDrawing {
  std::string schedule;
  int num_micro_batches = 0;     ///< of the first step, a data rank
  double bubble = 0;             ///< idle share of the ranks' time in a step, on average
  std::vector<int> peak_stages;  ///< by rank of the pipeline: stages' activations that it keeps at most
  std::string stages;            ///< one line a rank
  std::string timeline, timeline_svg;
};

/// By the operations of each stage: forward, and each half of backward, take as long as their products; messages take
/// no time. dualpipe can be drawn, though not trained with.
PipelineDrawing draw_pipeline(const Recipe& recipe, std::int64_t data_ranks);

}  // namespace fourmi
