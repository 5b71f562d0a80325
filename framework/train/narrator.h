// What the trainer tells people: to the console by rank 0 (lines, and on a terminal a bar), to logs/rank-<r>.log by
// every rank.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "framework/run/console.h"
#include "framework/telemetry/progress_bar.h"

namespace fourmi {

class Narrator {
 public:
  /// Until open(), only the console is told.
  explicit Narrator(bool first) : first_(first) {}
  void open(const std::filesystem::path& run_directory, int rank) { log_ = std::make_unique<Log>(run_directory, rank); }

  void say(const std::string& text);
  void warn(const std::string& text);
  /// To the log alone.
  void note(const std::string& text);
  /// On a terminal alone: a bar below the lines.
  void progress(std::int64_t step, std::int64_t last_step, const std::string& text) {
    if (first_) bar_.show(step, last_step, text);
  }
  void end_progress() { bar_.end(); }

 private:
  void print(const std::string& line);

  bool first_;
  ProgressBar bar_;
  std::unique_ptr<Log> log_;
};

}  // namespace fourmi
