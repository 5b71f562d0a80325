// "Save and stop": SIGUSR1 (which launchers forward), SIGTERM and SIGINT set a flag, nothing else. The trainer reads
// the flag at a step's end, all ranks agree, and only then does a save begin. A second signal ends the process at once,
// by that signal.
#pragma once

namespace fourmi {

/// Handles the three signals while it lives; one at a time in a process.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();  ///< restores what was there, and forgets
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The signal that came first, 0 if none came.
  static int requested() noexcept;
  /// "SIGUSR1" for messages; "a signal" for any other number.
  static const char* name_of(int signal) noexcept;
};

}  // namespace fourmi
