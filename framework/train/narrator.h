// What the trainer tells people: to the console by rank 0, to logs/rank-<r>.log by every rank.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "framework/run/console.h"

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

 private:
  bool first_;
  std::unique_ptr<Log> log_;
};

}  // namespace fourmi
