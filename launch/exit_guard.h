// Only main() ends the program.
#pragma once

namespace fourmi {

/// As long as it lives, a library that calls exit() by itself (HDF5 does, where it gets no memory) ends the process at
/// once with status 3 and a message: other threads are in the midst of their work, and exit() would take their objects
/// away and return a status that no contract names. One a process.
class ExitGuard {
 public:
  ExitGuard();
  ~ExitGuard();
  ExitGuard(const ExitGuard&) = delete;
  ExitGuard& operator=(const ExitGuard&) = delete;
};

}  // namespace fourmi
