// What a person sees of a run: one clear line on the console every few steps, and a log file a rank.
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "framework/run/files.h"

namespace fourmi {

struct ConsoleStep {
  std::int64_t step = 0, last_step = 0;
  double loss = 0;                     ///< nats a token
  bool byte_tokens = false;            ///< a token is a byte, so the loss can be said in bits a byte
  std::optional<double> distill = {};  ///< divergence from a teacher, nats a token
  double grad_norm = 0, tokens_per_second = 0;
  double of_machine = 0;          ///< mfu: share of what this machine's cores could do; 0: not known
  double load = 0;                ///< busiest expert over the mean; 0: there are no experts
  std::int64_t dead_experts = 0;  ///< of all layers, in the newest window that is complete
  double seconds_left = 0;
  std::string spent;  ///< "1.52 of 10 EUR"; empty: no budget
};

/// The steps' own line, and (short) what a progress bar says beside the steps.
/// `step 40/160  loss 2.31 (3.33 bits/byte)  grad 1.2  8.1K tok/s  25% of this machine  load 1.4x  eta 1:12`
std::string console_line(const ConsoleStep& step);
/// `loss 2.31  8.1K tok/s  eta 1:12`
std::string bar_text(const ConsoleStep& step);

/// 950, 8.1K, 12M: two or three digits and a unit.
std::string short_count(double value);
/// 0:42, 1:12, 2:03:09, 5d 03:04.
std::string short_time(double seconds);

/// logs/rank-<r>.log: time, level, text. Appends to what earlier launches wrote. A log that cannot be written ends no
/// run: its lines go to standard error instead, after one line that says so. Any thread may write.
class Log {
 public:
  Log(const std::filesystem::path& run_directory, int rank);
  void info(std::string_view text) { write("info", text); }
  void warn(std::string_view text) { write("warn", text); }
  void error(std::string_view text) { write("error", text); }

 private:
  void write(const char* level, std::string_view text);

  std::filesystem::path path_;
  std::mutex mutex_;
  files::Descriptor file_;
  bool failed_ = false;
};

}  // namespace fourmi
