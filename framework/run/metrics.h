// metrics.jsonl: one object a step, in order, no step missing or twice over any number of restarts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "framework/run/step_log.h"

namespace fourmi {

/// What one step is worth knowing by. Losses in nats.
struct StepMetrics {
  std::int64_t step = 0;    ///< from 1
  std::int64_t tokens = 0;  ///< input positions so far, no padding, all launches
  double loss = 0;          ///< main next-token cross-entropy, mean over the global batch's unmasked targets
  double grad_norm = 0;     ///< before clipping
  double learning_rate = 0;
  double step_seconds = 0;
  double tokens_per_second = 0;
  double mfu = 0;  ///< needed floating-point work a second over the peak of this dtype on all cores (machine.h)
  double speed_of_light =
      0;  ///< shortest time the machine could take for the needed work, over step_seconds (machine.h)
  double expert_load_max_over_mean = 0;
  std::int64_t launch = 0;
  std::optional<double> loss_mtp, loss_balance;
  std::vector<std::pair<std::string, double>> more;  ///< further figures by their key
};

/// The line of a step. A number parses back to the same double; one that is not finite is null, and its bits say which.
std::string to_json_line(const StepMetrics& metrics);

class MetricsLog {
 public:
  /// The run goes on after `last_step`; see StepLog.
  MetricsLog(const std::filesystem::path& run_directory, std::int64_t last_step, Warn warn)
      : log_(run_directory, "metrics", StepLog::Steps::each_once, last_step, std::move(warn)), last_step_(last_step) {}
  /// The next step's line.
  void append(const StepMetrics& metrics);
  bool sync() { return log_.sync(); }
  const SupersededLines& opened() const { return log_.opened(); }

 private:
  StepLog log_;
  std::int64_t last_step_;
};

/// One evaluation: `figures` by key (loss, perplexity, bits_per_byte, tokens, ...).
struct Evaluation {
  std::int64_t step = 0, tokens = 0, launch = 0;
  std::string source;  ///< name of the validation source; empty: the held-out share
  std::vector<std::pair<std::string, double>> figures;
};
std::string to_json_line(const Evaluation& evaluation);

class EvaluationLog {
 public:
  EvaluationLog(const std::filesystem::path& run_directory, std::int64_t last_step, Warn warn)
      : log_(run_directory, "evaluations", StepLog::Steps::any, last_step, std::move(warn)) {}
  void append(const Evaluation& evaluation) { log_.append(to_json_line(evaluation)); }
  bool sync() { return log_.sync(); }

 private:
  StepLog log_;
};

}  // namespace fourmi
