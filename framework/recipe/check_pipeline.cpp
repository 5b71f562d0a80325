#include "framework/recipe/check_pipeline.h"

#include "kernels/runtime/error.h"
#include "parallel/schedule/schedule.h"
#include "parallel/schedule/stage_map.h"

namespace fourmi::recipe {
namespace {

/// An error of the schedule's own checks, under the recipe's keys.
void pass_on(const Error& error, const RefusePipeline& refuse) {
  const std::string& cause = error.cause();
  const std::size_t at = cause.find(", expected ");
  if (at == std::string::npos) throw Error(error);
  refuse(error.place(), cause.substr(0, at), cause.substr(at + 2), error.remedy());
}

Schedule schedule_of(const ParallelSection& p, std::int64_t micro_batches) {
  return make_schedule(p.pipeline_schedule, static_cast<int>(p.pipeline), static_cast<int>(p.virtual_stages),
                       static_cast<int>(micro_batches));
}

}  // namespace

void pipeline_issues(const Recipe& r, const RefusePipeline& refuse) {
  const ParallelSection& p = r.parallel;
  try {
    // Four times the ranks are a number of micro-batches that every schedule takes.
    const int stages = schedule_of(p, 4 * p.pipeline).num_stages();
    if (r.model.num_hidden_layers < stages)
      return refuse("parallel.pipeline",
                    fmt::format("found {} ranks, which are {} stages with {}, for {} layers", p.pipeline, stages,
                                p.pipeline_schedule, r.model.num_hidden_layers),
                    "expected at least one layer a stage", "");
    if (!p.stage_layers.empty()) given_layers(p.stage_layers, stages, static_cast<int>(r.model.num_hidden_layers));
  } catch (const Error& error) {
    pass_on(error, refuse);
  }
}

void micro_batch_issues(const Recipe& r, std::int64_t data_ranks, const RefusePipeline& refuse) {
  bool good = true;
  pipeline_issues(r, [&](auto&&...) { good = false; });
  for (const auto& [tokens, sequences] : r.data.global_batch_size.over_tokens.steps) {
    if (!good) return;
    try {
      schedule_of(r.parallel, static_cast<std::int64_t>(sequences) / data_ranks / r.data.micro_batch_size);
    } catch (const Error& error) {
      good = false;
      pass_on(error, refuse);
    }
  }
}

}  // namespace fourmi::recipe
