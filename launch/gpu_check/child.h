// A program run in a process group of its own, within a time: one that hangs, or never stops to print, is killed with
// all that it started, and the caller goes on whatever happens.
#pragma once

#include <string>
#include <vector>

namespace fourmi::gpu_check {

struct ChildLimits {
  double seconds = 60;  ///< of the whole
  double silence = 0;   ///< without a new byte on standard output; 0: all that it is given
};

struct ChildEnd {
  enum class How {
    exited,
    signalled,  ///< died by a signal that is not ours
    hung,       ///< killed: silent for too long
    late,       ///< killed: not silent, but beyond its seconds
    flooded,    ///< killed: printed more than any program here has to say
    stuck,      ///< beyond its seconds, and not even SIGKILL ended it: left alone
    absent      ///< could not be started
  };
  How how = How::absent;
  int status = 0;  ///< exit status, or the signal
  double seconds = 0;
  std::string output, errors;  ///< standard output and error; of very long ones the beginning and the end
  bool well() const { return how == How::exited && status == 0; }
};

/// "ended with exit status 1", "hung for 30 s and was killed".
std::string describe(const ChildEnd& end);
/// The last lines of what it said, standard error first, at most so many bytes.
std::string last_words(const ChildEnd& end, std::size_t bytes = 2000);

/// A child that runs beside its parent.
class Child {
 public:
  explicit Child(const std::vector<std::string>& words);
  /// Kills it if it still runs.
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  /// Waits for its end, or makes one.
  ChildEnd wait(const ChildLimits& limits);

 private:
  bool reap();  // true: it has ended
  void kill_group();
  int pid_ = -1, output_ = -1, errors_ = -1, wait_status_ = 0;
  bool ended_ = false;
  double began_ = 0;
};

inline ChildEnd run_child(const std::vector<std::string>& words, const ChildLimits& limits) {
  return Child(words).wait(limits);
}

}  // namespace fourmi::gpu_check
