// A file of one JSON object a line, each with its "step", that survives any number of kills and restarts: metrics.jsonl
// and evaluations.jsonl.
//
// A run that starts again after step s opens the file at s. Lines beyond s, and lines that a kill tore, move to
// `<name>.superseded.jsonl`, in an order that loses none and doubles none wherever a kill falls: first the superseded
// file is replaced by itself and the moved lines, then this file by what stays. A launch killed in between finds the
// moved lines at the superseded file's end and does not add them again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "framework/run/files.h"

namespace fourmi {

/// Says something that a person should read; the trainer's log.
using Warn = std::function<void(const std::string&)>;

struct SupersededLines {
  std::int64_t moved = 0;  ///< lines that went to the superseded file
  std::int64_t kept = 0;
  std::int64_t first_missing =
      0;  ///< for logs with each step once: the first of 1..s that has no line; 0: none is missing
};

class StepLog {
 public:
  enum class Steps { each_once, any };

  /// Opens `<run_directory>/<name>.jsonl` for a run that goes on after `last_step` (0: from the beginning). Throws
  /// Error(environment) if the file cannot be read or what is superseded cannot be put aside: before the first step, so
  /// nothing is lost.
  StepLog(const std::filesystem::path& run_directory, const std::string& name, Steps steps, std::int64_t last_step,
          Warn warn);
  /// Writes what waits, if it can.
  ~StepLog();
  StepLog(StepLog&&) = default;

  /// Adds a line (a JSON object that begins with {"step":N, and has no line break) and writes it. Never throws for the
  /// disk's sake: what cannot be written waits in memory, in order, and is tried again with the next line; the first
  /// failure is said once.
  void append(std::string_view line);

  /// Writes what waits and makes all of it last. To be called before a checkpoint is committed and evaluations belong
  /// before it too: what is in the log at a commit is what a resume finds. False if something still waits.
  bool sync();

  const SupersededLines& opened() const { return opened_; }
  bool waiting() const { return !pending_.empty(); }

 private:
  bool write_pending();

  std::filesystem::path path_;
  Warn warn_;
  files::Descriptor file_;
  std::string pending_;  ///< not yet written; may begin inside a line
  bool failing_ = false;
  SupersededLines opened_;
};

/// For a branch: this run's log becomes the lines up to `last_step` of another run's log. Throws Error(environment).
void copy_steps(const std::filesystem::path& from_run, const std::filesystem::path& to_run, const std::string& name,
                std::int64_t last_step);

}  // namespace fourmi
