// What a step is watched by, beyond its figures: the rank's timeline, traces of chosen steps, the load of experts.
#pragma once

#include <optional>

#include "framework/telemetry/expert_load.h"
#include "framework/telemetry/exposure.h"
#include "framework/telemetry/rank_clock.h"
#include "framework/train/engine.h"
#include "framework/train/narrator.h"
#include "framework/train/reporting.h"
#include "framework/train/run_context.h"

namespace fourmi {

/// Spans that a trace may have; a step of 61 layers and 32 micro-batches has about 80,000.
std::size_t trace_records(const Recipe& recipe);

class Telemetry {
 public:
  /// `groups` outlives it.
  Telemetry(const RunContext& context, Narrator& narrator, Reporting& reporting, const RankGroups& groups);

  /// Around a step, on every rank. Collective, as is what comes after it.
  void begin_step(std::int64_t step);
  void end_step();
  /// After it, when its counts are known; `progress` is the one after the step.
  void after_step(const Progress& progress, Engine& engine);

 private:
  bool traced(std::int64_t step) const;
  void write_trace_of(std::int64_t step, const Engine& engine);
  /// What the simulator makes of the step, as events of a trace on rank 0; elsewhere nothing. Collective.
  std::string simulated(std::int64_t step, const Engine& engine);
  void add_expert_load(const Progress& progress, Engine& engine);

  const RunContext& context_;
  Narrator& narrator_;
  Reporting& reporting_;
  Timeline* timeline_;
  std::optional<CallLanes> lanes_;  ///< none where the rank is alone
  RankClock clock_;                 ///< around the newest traced step
  std::optional<ExpertLoadWindow> window_;
  bool trace_failed_ = false;
};

}  // namespace fourmi
