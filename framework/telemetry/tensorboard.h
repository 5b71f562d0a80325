// `<run.directory>/tensorboard/events.out.tfevents...`: what metrics.jsonl and evaluations.jsonl say, for TensorBoard;
// x is the step. A launch writes a file of its own, which begins with "steps after s are mine", so what is done again
// replaces what was.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "framework/run/step_log.h"
#include "framework/telemetry/event_file.h"

namespace fourmi {

/// The tag of a figure of metrics.jsonl: "train/loss", "speed/mfu", "time/attention"; empty: not a figure to draw
/// (step, launch, ...).
std::string tensorboard_tag(const std::string& key);

class TensorBoard {
 public:
  /// For a run that goes on after `last_step`. Where the run has steps but no events yet (a branch; the key was set
  /// later), they are taken from its logs. Never throws for the disk's sake: training goes on without, and that is said
  /// once.
  TensorBoard(const std::filesystem::path& run_directory, std::int64_t last_step, std::int64_t launch, Warn warn);

  /// Figures of a step, by tag.
  void add(std::int64_t step, const Scalars& scalars);
  enum class Figures { all, train };  ///< `train`: losses, gradient norm and learning rate alone
  /// A line of metrics.jsonl; with a `prefix` ("evaluation/") of another log.
  void add_line(const std::string& line, const std::string& prefix = {}, Figures figures = Figures::all);

 private:
  void write(const std::string& event);
  void copy_log(const std::filesystem::path& path, std::int64_t last_step, const std::string& prefix);

  std::filesystem::path path_;
  std::optional<EventFile> file_;
  Warn warn_;
  bool told_ = false;
};

}  // namespace fourmi
