#include "framework/telemetry/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

namespace fourmi {

namespace {

constexpr int compute_lane = 0, copy_lane = 1, first_flight_lane = 2;

/// Nothing of a trace lies before its clock's beginning.
std::string microseconds(std::int64_t nanoseconds) {
  const std::int64_t t = std::max<std::int64_t>(0, nanoseconds);
  return fmt::format("{}.{:03}", t / 1000, t % 1000);
}

/// Data that the rank copies within its memory, or between the host's and the device's.
bool is_copy(const SpanRecord& span) {
  return std::string_view(span.name).starts_with("copy");
}

void add(std::string& events, const std::string& event) {
  events += events.empty() ? "" : ",\n";
  events += event;
}

void add_spans(std::string& events, const Timeline& timeline, const RankClock& clock, const TraceLabels& labels) {
  timeline.visit([&](const SpanRecord& span) {
    if (span.end == 0) return;
    std::string more;
    if (span.depth == 0)
      more = fmt::format(R"(,"args":{{"step":{}}})", labels.step);
    else if (span.layer >= 0)
      more = fmt::format(R"(,"args":{{"layer":{}}})", span.layer);
    add(events, span_event(labels.rank, is_copy(span) ? copy_lane : compute_lane, span.name, name_of(span.work),
                           clock.on_first(span.begin), clock.on_first(span.end), more));
  });
}

void add_waits(std::string& events, const CallLanes& lanes, const RankClock& clock) {
  lanes.visit_waits([&](const CallLanes::WaitRecord& wait) {
    add(events, span_event(lanes.rank(), compute_lane, fmt::format("wait: {}", name_of(wait.call)), "exposed",
                           clock.on_first(wait.begin), clock.on_first(wait.end),
                           fmt::format(R"(,"args":{{"exposed":"{}"}})", name_of(wait.wait))));
  });
}

std::string list_of(const std::vector<int>& ranks) {
  return fmt::format("{}", fmt::join(ranks, " "));
}

/// An arrow from a send to its receive: each rank writes its end of it.
std::string arrow_event(bool sends, int rank, int lane, std::int64_t id, std::int64_t at) {
  return fmt::format(R"({{"name":"message","cat":"message","ph":"{}",{}"id":{},"ts":{},"pid":{},"tid":{}}})",
                     sends ? "s" : "f", sends ? "" : R"("bp":"e",)", id, microseconds(at), rank, lane);
}

/// Flights that overlap lie in lanes of their own. How many lanes it took.
int add_flights(std::string& events, const CallLanes& lanes, const RankClock& clock) {
  std::vector<std::int64_t> ends;  // of the last one in each lane
  lanes.visit_flights([&](const CallLanes::Flight& flight) {
    const auto free = std::find_if(ends.begin(), ends.end(), [&](std::int64_t end) { return end <= flight.begin; });
    const auto at = static_cast<std::size_t>(free - ends.begin());
    if (at == ends.size()) ends.emplace_back();
    ends[at] = flight.end;
    const int lane = first_flight_lane + static_cast<int>(at);
    const CallLanes::Label& group = lanes.label(flight);
    const std::int64_t begin = clock.on_first(flight.begin), end = clock.on_first(flight.end);
    const bool message = flight.peer >= 0 && static_cast<std::size_t>(flight.peer) < group.ranks.size();
    const bool sends = flight.call == Call::send;
    const int other = message ? group.ranks[static_cast<std::size_t>(flight.peer)] : -1;
    const int from = sends ? lanes.rank() : other, to = sends ? other : lanes.rank();
    const std::string which = message ? fmt::format(R"("from":{},"to":{},"tag":{})", from, to, flight.number)
                                      : fmt::format(R"("ranks":"{}","number":{})", list_of(group.ranks), flight.number);
    add(events,
        span_event(lanes.rank(), lane, name_of(flight.call), "communication", begin, end,
                   fmt::format(R"(,"args":{{"group":{},{},"bytes":{}}})", quoted(group.name), which, flight.bytes)));
    if (message)
      add(events,
          arrow_event(sends, lanes.rank(), lane,
                      (static_cast<std::int64_t>(from) << 44) + (static_cast<std::int64_t>(to) << 30) + flight.number,
                      sends ? begin : end - 1));
  });
  return static_cast<int>(ends.size());
}

}  // namespace

std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string process_event(int pid, const std::string& name) {
  return fmt::format(R"({{"name":"process_name","ph":"M","pid":{0},"tid":0,"args":{{"name":{1}}}}},)"
                     "\n"
                     R"({{"name":"process_sort_index","ph":"M","pid":{0},"tid":0,"args":{{"sort_index":{0}}}}})",
                     pid, quoted(name));
}

std::string lane_event(int pid, int tid, const std::string& name) {
  return fmt::format(R"({{"name":"thread_name","ph":"M","pid":{0},"tid":{1},"args":{{"name":{2}}}}},)"
                     "\n"
                     R"({{"name":"thread_sort_index","ph":"M","pid":{0},"tid":{1},"args":{{"sort_index":{1}}}}})",
                     pid, tid, quoted(name));
}

std::string span_event(int pid, int tid, const std::string& name, std::string_view category, std::int64_t begin,
                       std::int64_t end, const std::string& more) {
  return fmt::format(R"({{"name":"{}","cat":"{}","ph":"X","ts":{},"dur":{},"pid":{},"tid":{}{}}})", name, category,
                     microseconds(begin), microseconds(end - begin), pid, tid, more);
}

RankTrace rank_trace(const Timeline& timeline, const CallLanes* lanes, const RankClock& clock,
                     const TraceLabels& labels) {
  RankTrace trace;
  add(trace.events, process_event(labels.rank, fmt::format("rank {} on {}", labels.rank, labels.host)));
  add(trace.events, lane_event(labels.rank, compute_lane, "compute"));
  add(trace.events, lane_event(labels.rank, copy_lane, "copy"));
  add_spans(trace.events, timeline, clock, labels);
  if (lanes) add_waits(trace.events, *lanes, clock);
  const int used = lanes ? add_flights(trace.events, *lanes, clock) : 0;
  for (int i = 0; i < std::max(1, used); ++i)
    add(trace.events, lane_event(labels.rank, first_flight_lane + i,
                                 i == 0 ? "communication" : fmt::format("communication {}", i + 1)));
  std::string exposed;
  if (lanes)
    for (const auto& [key, seconds] : exposure_figures(lanes->waits()))
      exposed += fmt::format(R"(,"{}":{:.6f})", key, seconds);
  trace.facts =
      fmt::format(R"({{"rank":{},"host":{},"clock_ahead_us":{:.3f},"clock_error_us":{:.3f},"forgotten_spans":{},)"
                  R"("forgotten_calls":{},"step_seconds":{:.9f}{}}})",
                  labels.rank, quoted(labels.host), static_cast<double>(clock.after.offset) * 1e-3,
                  static_cast<double>(clock.error()) * 1e-3, timeline.num_forgotten(),
                  lanes ? lanes->num_forgotten() : 0, static_cast<double>(timeline.step_nanoseconds()) * 1e-9, exposed);
  return trace;
}

}  // namespace fourmi
