// How a part that runs in a process of its own tells its figures: one JSON object a line on standard output, as soon as
// it is known, so that those of a process that hangs are not lost.
#pragma once

#include <string>
#include <vector>

#include "launch/gpu_check/part.h"

namespace fourmi::gpu_check {

/// {"begin": what, "number": n} before what may hang, and the figures after it. A process that hangs there is started
/// again from n + 1; where n is less than the number that it was started from, it is not.
using Tell = std::function<void(const ordered_json& figure)>;

/// To standard output, flushed.
void tell_parent(const ordered_json& figure);

struct Figures {
  std::vector<ordered_json> lines;  ///< without the {"begin"} of what came to its end
  std::string begun;                ///< what was begun last and has no figures; empty: nothing
  std::int64_t number = -1;         ///< its "number", where it has one
  std::string trouble;              ///< a line that is no such object; empty: none
};
/// A last line that is cut off is left out if `cut` (the process was killed).
Figures read_figures(const std::string& output, bool cut);

/// Runs `fourmi gpu-check --part NAME WORDS...`: passed if it exits with 0 and every line is a figure.
/// Where it hangs or dies at something that it began, goes on with a new process behind that, by --from.
Outcome run_measuring(const Job& job, const std::string& program, const std::string& part, double silence);

}  // namespace fourmi::gpu_check
