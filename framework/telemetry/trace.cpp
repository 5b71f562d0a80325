#include "framework/telemetry/trace.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "framework/run/files.h"

namespace fourmi {

namespace {

std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string microseconds(std::int64_t nanoseconds) {
  return fmt::format("{}.{:03}", nanoseconds / 1000, nanoseconds % 1000);
}

}  // namespace

std::string trace_json(const Timeline& timeline, const TraceLabels& labels) {
  std::string json = fmt::format(
      R"({{"displayTimeUnit":"ms","otherData":{{"run":{},"step":{},"rank":{},"host":{},"forgotten_spans":{}}},"traceEvents":[)"
      "\n"
      R"({{"name":"process_name","ph":"M","pid":{},"tid":0,"args":{{"name":{}}}}},)"
      "\n"
      R"({{"name":"thread_name","ph":"M","pid":{},"tid":0,"args":{{"name":"rank"}}}})",
      quoted(labels.run), labels.step, labels.rank, quoted(labels.host), timeline.num_forgotten(), labels.rank,
      quoted(fmt::format("rank {} on {}", labels.rank, labels.host)), labels.rank);
  timeline.visit([&](const SpanRecord& span) {
    if (span.end == 0) return;
    json += fmt::format(
        ",\n"
        R"({{"name":"{}","cat":"{}","ph":"X","ts":{},"dur":{},"pid":{},"tid":0)",
        span.name, name_of(span.work), microseconds(span.begin), microseconds(span.end - span.begin), labels.rank);
    if (span.depth == 0)
      json += fmt::format(R"(,"args":{{"step":{}}})", labels.step);
    else if (span.layer >= 0)
      json += fmt::format(R"(,"args":{{"layer":{}}})", span.layer);
    json += "}";
  });
  return json + "\n]}\n";
}

std::filesystem::path trace_path(const std::filesystem::path& run_directory, std::int64_t step, int rank) {
  return run_directory / "traces" / fmt::format("step-{:08d}.rank-{}.json", step, rank);
}

void write_trace(const std::filesystem::path& run_directory, const Timeline& timeline, const TraceLabels& labels) {
  const std::filesystem::path path = trace_path(run_directory, labels.step, labels.rank);
  files::make_folder(path.parent_path());
  files::replace(path, trace_json(timeline, labels), files::Durable::no);
}

}  // namespace fourmi
