#include "framework/train/draw_pipeline.h"

#include <numeric>

#include "framework/train/stages.h"
#include "parallel/schedule/draw.h"

namespace fourmi {

PipelineDrawing draw_pipeline(const Recipe& r, std::int64_t data_ranks) {
  PipelineDrawing d;
  d.schedule = r.parallel.pipeline_schedule;
  d.num_micro_batches = static_cast<int>(r.data.global_batch_size.at(0) / data_ranks /
                                         std::max<std::int64_t>(1, r.data.micro_batch_size));
  const Schedule schedule = schedule_of(r, d.num_micro_batches);
  const StageMap map = stages_of(r, schedule);
  Times times = stage_times(r, map);
  // In units of a mean stage's forward, so that a drawing's columns suit.
  double mean = 0;
  for (const StageTimes& t : times.stages) mean += t.forward / static_cast<double>(times.stages.size());
  for (StageTimes& t : times.stages) t = {t.forward / mean, t.backward_input / mean, t.backward_weight / mean};
  const Simulation sim = simulate(schedule, times);
  const double busy = std::accumulate(sim.busy.begin(), sim.busy.end(), 0.0);
  d.bubble = 1 - busy / (sim.makespan * static_cast<double>(sim.busy.size()));
  d.peak_stages = sim.peak_activations;
  d.stages = to_text(map, r.model);
  d.timeline = draw_text(schedule, sim);
  d.timeline_svg = draw_svg(schedule, sim);
  return d;
}

}  // namespace fourmi
