// How a recipe's model lies on the ranks of its pipeline: the schedule, the layers of each stage, what each rank holds.
// A pure function of the recipe and the number of micro-batches, so all ranks know all of it.
#pragma once

#include <string>
#include <vector>

#include "framework/model/context.h"
#include "framework/model/holding.h"
#include "framework/model/stage.h"
#include "framework/recipe/recipe.h"
#include "parallel/groups.h"
#include "parallel/schedule/schedule.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/stage_map.h"

namespace fourmi {

struct StageMap {
  std::vector<StageLayers> layers;  ///< by stage
  std::vector<StagePlace> places;   ///< by stage: the rank of the pipeline, and which of its chunks

  int num_ranks() const;
  /// The stages of a rank, by chunk.
  std::vector<int> stages_of(int rank) const;
  Stage stage(int index) const;
  Holding holding(const ModelSection& model, int rank) const;
  /// The ranks that hold a table of embeddings, ascending: of the first stage, and of the last one where it reads it.
  std::vector<int> embedding_ranks(const ModelSection& model) const;
};

/// Throws Error(usage) for what the schedule cannot do, for fewer layers than stages and for dualpipe, which holds each
/// stage twice.
StageMap stage_map(const Recipe& recipe);

/// Where the stages of a schedule lie (of its first route), with their layers. Throws as stage_map.
StageMap stages_of(const Recipe& recipe, const Schedule& schedule);

/// May layers of eight bits work in bf16 instead? Then there is memory for it.
bool promotes(const Recipe& recipe);
/// Of a step of so many, those of a data rank that the guard of eight bits computes in bf16 too: as many as have 4,096
/// tokens, or what the stages need; all of them where the figures are not to depend on the layout.
int shadow_micro_batches(const Recipe& recipe, int num_micro_batches);
/// Of a micro-batch.
BatchSizes batch_sizes(const Recipe& recipe);
/// The schedule of a step of so many micro-batches a data rank.
Schedule schedule_of(const Recipe& recipe, int num_micro_batches);
/// Each number of micro-batches that a step of the run can have on so many data ranks, ascending.
std::vector<int> micro_batch_counts(const Recipe& recipe, std::int64_t data_ranks);

/// The groups of a rank. Collective: all ranks of `world`, which outlives them, with the same recipe. Throws
/// Error(usage) on all of them where the recipe's dispatcher is not for such ranks.
RankGroups make_groups(const Recipe& recipe, Group& world);

/// Floating point operations of a token in forward, by layer, and what the first and the last stage do besides.
struct LayerCosts {
  std::vector<double> layers;
  double first = 0, last = 0;
};
LayerCosts layer_costs(const ModelSection& model, std::int64_t sequence_length);
/// For the simulator, of each stage: forward, and each half of backward, cost the same operations.
Times stage_times(const Recipe& recipe, const StageMap& map);

/// One line a rank: its stages with their layers, embedding, head, MTP.
std::string to_text(const StageMap& map, const ModelSection& model);

}  // namespace fourmi
