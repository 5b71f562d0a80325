// What a recipe would do, without doing it: every input opened, every size counted by the code that training uses.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "framework/model/counts.h"
#include "framework/recipe/recipe.h"
#include "framework/run/machine.h"
#include "framework/train/draw_pipeline.h"
#include "framework/train/pair_rule.h"
#include "parallel/traffic.h"

namespace fourmi {

struct DryRun {
  int ranks = 1;
  bool ranks_chosen = false;                ///< nobody said how many: the least that the sizes allow
  std::optional<PipelineDrawing> pipeline;  ///< where parallel.pipeline is larger than 1
  PairRule pairs;                           ///< of its schedule
  std::int64_t data_ranks = 1;
  ModelCounts counts;
  std::vector<std::pair<std::string, std::int64_t>> memory_bytes_per_rank;  ///< by arena; of the rank that needs most
  std::vector<std::string> arenas_on_host;  ///< those of them whose place is host memory (memory.offload_optimizer)
  std::int64_t memory_total = 0;
  std::vector<GroupTraffic> traffic;  ///< of rank 0 in the first step, by formula
  bool dispatches = false;            ///< rows travel to experts: how many, the router decides; not in `traffic`
  std::int64_t checkpoint_bytes = 0;  ///< one, of all ranks
  std::int64_t checkpoints_kept = 0;
  double export_bytes = 0;            ///< of all that the run exports; checkpoints by the clock: of one
  std::optional<std::int64_t> steps;  ///< unknown where it depends on data that is absent
  std::int64_t tokens_per_step = 0;   ///< of the first step; a ramp changes it
  double tokens = 0;                  ///< of all steps
  ScheduleSection schedule;           ///< with the horizon that it has, where the data tell that
  struct Source {
    std::string name;
    std::int64_t tokens_per_epoch = 0, samples_per_epoch = 0;
    double share = 0;   ///< of the tokens
    double epochs = 0;  ///< that the run makes over it
  };
  std::vector<Source> sources;  ///< empty where data is absent
  double least_seconds = 0;     ///< all steps' work at the peak of `least_on`: no run is faster there
  std::string least_on;
  double device_hours = 0;            ///< least_seconds on all ranks
  std::optional<double> cost;         ///< of device_hours, where the recipe names a price
  std::vector<std::string> warnings;  ///< absent inputs, too little memory or disk
};

/// `ranks` 0: the least number that the sizes allow. Throws Error(usage) for a number that does not fit.
DryRun dry_run(const Recipe& recipe, int ranks);

/// For people, and as one JSON object.
std::string to_text(const DryRun& run, const Recipe& recipe);
std::string to_json(const DryRun& run);

}  // namespace fourmi
