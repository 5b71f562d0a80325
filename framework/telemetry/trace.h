// A step as a picture: `<run.directory>/traces/step-<N>.rank-<R>.json` in Chrome's trace event format ("JSON Object
// Format", complete events, ph X), which Perfetto (ui.perfetto.dev) and chrome://tracing open. pid is the rank; tid 0
// is the rank's own thread. Times are microseconds of the machine's monotonic clock, so the files of one machine's
// ranks lie on one axis.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "kernels/runtime/timeline.h"

namespace fourmi {

struct TraceLabels {
  std::int64_t step = 0;
  int rank = 0;
  std::string host, run;
};

/// The recorded spans of the timeline's newest recorded step.
std::string trace_json(const Timeline& timeline, const TraceLabels& labels);

/// traces/step-00000042.rank-3.json
std::filesystem::path trace_path(const std::filesystem::path& run_directory, std::int64_t step, int rank);

/// Throws Error(environment).
void write_trace(const std::filesystem::path& run_directory, const Timeline& timeline, const TraceLabels& labels);

}  // namespace fourmi
