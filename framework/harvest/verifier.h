// Asks a program whether an answer is right: JSON on its standard input, its exit status as the verdict.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace fourmi::harvest {

struct Verdict {
  bool kept = false;
  std::string why;  ///< "exit status 1", "no verdict in time", ...
};

/// Runs `command` with `input` on standard input and no output, in a process group of its own; when it has ended, or
/// after `limit`, all that is left of the group is killed. Throws Error(input) where the program cannot be started.
Verdict verify(const std::vector<std::string>& command, const std::string& input, std::chrono::milliseconds limit);

}  // namespace fourmi::harvest
