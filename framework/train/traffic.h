// What a rank sends in a step, by formula: from the recipe, the mesh and the schedule, before anything runs. The groups
// count what they do (parallel/traffic.h), and tests hold the two against each other to the byte. M rows of a
// micro-batch, P ranks of a group; a gather sends a rank's part to P - 1 others, a sum of cut pieces each piece to its
// owner.
#pragma once

#include "framework/recipe/recipe.h"
#include "framework/train/stages.h"
#include "parallel/schedule/program.h"
#include "parallel/traffic.h"

namespace fourmi {

/// A step to be predicted.
struct StepSizes {
  int num_micro_batches = 1;  ///< of a data rank
  bool balance_loss = false;  ///< its weight is not zero
};

/// Between stages: a hidden state forward and its gradient back for each micro-batch and each border between two ranks.
TrafficByCall pipeline_traffic(const Recipe& recipe, const StageMap& map, int pipeline_rank, int num_micro_batches);

/// Between the ranks that share a micro-batch's rows (framework/model), for the actions of a rank's program.
struct RowTraffic {
  TrafficByCall tensor{}, context{};
};
RowTraffic row_traffic(const Recipe& recipe, const StageMap& map, int pipeline_rank, const Program& program,
                       bool balance_loss);

}  // namespace fourmi
