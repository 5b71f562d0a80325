// What a run leaves in its logs and says on the console, step by step: metrics.jsonl, evaluations.jsonl, a line every
// few steps.
#pragma once

#include <memory>

#include "framework/run/metrics.h"
#include "framework/telemetry/expert_load.h"
#include "framework/telemetry/tensorboard.h"
#include "framework/train/engine.h"
#include "framework/train/evaluate.h"
#include "framework/train/meter.h"
#include "framework/train/narrator.h"
#include "framework/train/run_context.h"

namespace fourmi {

class Reporting {
 public:
  /// Collective: measures the machine. open() before the first step.
  Reporting(const RunContext& context, Narrator& narrator, const ParameterTable& table);

  /// Rank 0 alone opens the logs for a run that goes on after `step`. Throws Error(environment).
  void open(std::int64_t step, std::int64_t launch);
  /// The first lines of a launch.
  void introduce(const Progress& progress, const std::string& checkpoint);
  /// After each step; `progress` is the one after it. `stall_seconds`: between the last step and this one, evaluation
  /// aside.
  void step(const Progress& progress, const StepResult& result, const std::vector<GroupTraffic>& traffic,
            double seconds, double stall_seconds);
  /// A step begins: what was to be reported of an earlier one is not.
  void begin_step() { also_.clear(); }
  /// A figure more of the step.
  void also(std::string key, double value) { also_.emplace_back(std::move(key), value); }
  /// What a comparison of the guard of eight bits has found before the next step. Rank 0 alone.
  void precision(const PrecisionFigures& figures, std::int64_t launch, const Engine& engine);
  /// At the end of a window of steps.
  void expert_load(const Progress& progress, const LoadSummary& load);
  void evaluation(const Progress& progress, const EvaluationResult& result);
  /// Makes all that was written last.
  void sync();
  /// The last lines of a launch.
  void conclude();

 private:
  const RunContext& context_;
  Narrator& narrator_;
  ModelCounts counts_;
  Meter meter_;
  std::unique_ptr<MetricsLog> metrics_;
  std::unique_ptr<EvaluationLog> evaluations_;
  std::unique_ptr<StepLog> expert_load_, precision_;
  std::unique_ptr<TensorBoard> tensorboard_;
  std::vector<std::pair<std::string, double>> also_;
  std::int64_t dead_experts_ = 0;
  double step_seconds_ = 0, tokens_per_second_ = 0;  // smoothed, for the console
};

}  // namespace fourmi
