// A step of one rank as a picture: events of Chrome's trace event format ("JSON Object Format"), which Perfetto
// (ui.perfetto.dev) and chrome://tracing open. pid is the rank, tid a lane: what it computes and waits for (0), what it
// copies (1), what moves between ranks (from 2 on, as many as it takes). Times are microseconds of rank 0's monotonic
// clock.
#pragma once

#include <cstdint>
#include <string>

#include "framework/telemetry/exposure.h"
#include "framework/telemetry/rank_clock.h"
#include "kernels/runtime/timeline.h"

namespace fourmi {

struct TraceLabels {
  std::int64_t step = 0;
  int rank = 0;
  std::string host, run;
};

/// A rank's part of a step's file.
struct RankTrace {
  std::string events;  ///< JSON objects with commas between them, a line each
  std::string facts;   ///< a JSON object: rank, host, its clock, what was forgotten, exposed communication
};

/// The recorded spans and flights of the timeline's newest recorded step. `lanes`: null where the rank is alone.
RankTrace rank_trace(const Timeline& timeline, const CallLanes* lanes, const RankClock& clock,
                     const TraceLabels& labels);

/// A lane's name, and its place below the process: metadata.
std::string lane_event(int pid, int tid, const std::string& name);
std::string process_event(int pid, const std::string& name);
/// A span of a lane; `more`: further members, with a comma before them.
std::string span_event(int pid, int tid, const std::string& name, std::string_view category, std::int64_t begin,
                       std::int64_t end, const std::string& more = "");
/// Text as JSON has it.
std::string quoted(const std::string& text);

}  // namespace fourmi
