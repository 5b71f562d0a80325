// Runs a program as a user does: as a process with its environment, its time limit and its two outputs; and ends
// whatever it started.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tests/run/temp_folder.h"

namespace fourmi::testing {

using Words = std::vector<std::string>;
using Seconds = std::chrono::duration<double>;

/// What became of a program.
struct Result {
  int status = -1;  ///< exit status; -signal where a signal ended it
  bool timed_out = false;
  std::string output, errors;
  double seconds = 0;

  /// Lines of standard error that begin like this.
  std::vector<std::string> lines(const std::string& beginning) const;
  std::vector<std::string> error_lines() const { return lines("fourmi: error: "); }
};

/// For messages of failed expectations.
std::string to_string(const Result& result);

/// A program that runs, and all that it started: found by a mark in their environment, whoever their parent is now.
class Process {
 public:
  /// `directory` empty: this process' own.
  explicit Process(Words words, const std::filesystem::path& directory = {});
  ~Process();  ///< ends what is left
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int signal) const;
  bool runs();  ///< the program itself
  /// Every live process of it whose program's file has this name; all with an empty one.
  std::vector<pid_t> processes(const std::string& name = {}) const;
  /// SIGKILL to all of them at once; returns when none is left.
  void kill_all();
  /// Waits until it ends; after `limit` all are killed and the result says so.
  Result wait(Seconds limit = Seconds(60));

 private:
  void reap(int flags);

  TempFolder folder_;
  std::string mark_;
  pid_t pid_ = -1;
  bool ended_ = false;
  int wait_status_ = 0;
  std::chrono::steady_clock::time_point begin_;
};

Result run(Words words, const std::filesystem::path& directory = {}, Seconds limit = Seconds(60));

/// Looks every few milliseconds until it holds; false after `limit`.
bool wait_until(const std::function<bool()>& holds, Seconds limit = Seconds(30));

/// The program, alone or as `ranks` ranks by launch/mpirun. `ranks` 0: alone, without a launcher.
Words fourmi(Words words, int ranks = 0);
/// Another program in its place.
Words on_ranks(int ranks, Words words);

}  // namespace fourmi::testing
