#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <thread>

#include "framework/telemetry/time_split.h"
#include "framework/telemetry/trace_file.h"
#include "kernels/runtime/error.h"
#include "tests/run/temp_folder.h"

namespace fourmi {
namespace {

void pause(int microseconds) {
  std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
}

void make_a_step(Timeline& t) {
  t.begin_step(true);
  for (int layer = 0; layer < 3; ++layer) {
    const Span block(&t, Work::other, "block_forward", layer);
    pause(50);
    {
      const Span norm(&t, Work::norm, "rms_norm_forward");
      pause(20);
    }
    const Span attention(&t, Work::attention, "attention_forward");
    pause(80);
  }
  t.end_step();
}

nlohmann::json events_of(const Timeline& timeline, const TraceLabels& labels) {
  return nlohmann::json::parse("[" + rank_trace(timeline, nullptr, {}, labels).events + "]");
}

TEST(Trace, IsWhatPerfettoReads) {
  Timeline timeline(100);
  make_a_step(timeline);
  const TempFolder run;
  const TraceLabels labels{.step = 42, .rank = 3, .host = "a \"host\"", .run = "r"};
  const auto alone = make_self_group("world");
  write_trace(*alone, run.path(), labels, rank_trace(timeline, nullptr, {}, labels), "");
  std::ifstream in(run.path() / "traces" / "step-00000042.json");
  const auto json = nlohmann::json::parse(in);
  ASSERT_TRUE(json["traceEvents"].is_array());
  EXPECT_EQ(json["otherData"]["step"], 42);
  EXPECT_EQ(json["otherData"]["ranks"][0]["forgotten_spans"], 0);
  EXPECT_EQ(json["otherData"]["ranks"][0]["host"], labels.host);
  struct Open {
    double begin, end;
  };
  std::vector<Open> stack;
  std::multiset<std::string> names, lanes;
  double last_begin = 0;
  for (const auto& e : json["traceEvents"]) {
    EXPECT_EQ(e["pid"], 3);
    if (e["ph"] == "M") {
      if (e["name"] == "thread_name") lanes.insert(e["args"]["name"].get<std::string>());
      continue;
    }
    EXPECT_EQ(e["tid"], 0);
    ASSERT_EQ(e["ph"], "X");
    const double begin = e["ts"], end = begin + e["dur"].get<double>();
    EXPECT_GE(begin, last_begin) << "in order of their beginning";
    last_begin = begin;
    // Every span lies wholly inside the one it was begun in, or after it.
    while (!stack.empty() && stack.back().end <= begin) stack.pop_back();
    if (!stack.empty()) {
      EXPECT_LE(end, stack.back().end + 0.002);
    }
    stack.push_back({begin, end});
    names.insert(e["name"].get<std::string>());
    if (e["name"] == "rms_norm_forward") {
      EXPECT_EQ(e["cat"], "norm");
      EXPECT_TRUE(e["args"].contains("layer"));
      EXPECT_GE(e["dur"].get<double>(), 20);
    }
    if (e["name"] == "step") {
      EXPECT_EQ(e["args"]["step"], 42);
    }
  }
  EXPECT_EQ(lanes, (std::multiset<std::string>{"compute", "copy", "communication"}));
  EXPECT_EQ(names.count("step"), 1u);
  EXPECT_EQ(names.count("block_forward"), 3u);
  EXPECT_EQ(names.count("rms_norm_forward"), 3u);
  EXPECT_EQ(names.count("attention_forward"), 3u);
}

TEST(Trace, NoSpanThatDidNotEnd) {
  Timeline timeline(100);
  timeline.begin_step(true);
  timeline.open(Work::norm, "open", -1, false);
  for (const auto& e : events_of(timeline, {})) EXPECT_EQ(e["ph"], "M") << "names alone";
}

TEST(Trace, CopiesHaveALaneOfTheirOwn) {
  Timeline timeline(100);
  timeline.begin_step(true);
  { const Span copy(&timeline, Work::other, "copy_columns"); }
  timeline.end_step();
  int copies = 0;
  for (const auto& e : events_of(timeline, {}))
    if (e["ph"] == "X" && e["tid"] == 1) {
      ++copies;
      EXPECT_EQ(e["name"], "copy_columns");
    }
  EXPECT_EQ(copies, 1);
}

/// What cannot be written is an error of rank 0, and leaves nothing half done.
TEST(Trace, AFileThatCannotBeWrittenIsAnError) {
  const TempFolder run;
  std::ofstream(run.path() / "traces") << "no folder";
  const auto alone = make_self_group("world");
  try {
    write_trace(*alone, run.path(), {}, {"{}", "{}"}, "");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::environment);
  }
}

TEST(TimeSplit, AddsUpToTheStep) {
  Timeline timeline;
  make_a_step(timeline);
  double sum = 0;
  for (const auto& [key, seconds] : time_figures(timeline.nanoseconds())) {
    EXPECT_EQ(key.rfind("time_", 0), 0u);
    sum += seconds;
  }
  EXPECT_NEAR(sum, static_cast<double>(timeline.step_nanoseconds()) * 1e-9, 2e-6);
}

TEST(TimeSplit, NamesTheGreatestFirstAndOtherLast) {
  Timeline::Nanoseconds ns{};
  ns[static_cast<std::size_t>(Work::other)] = 600;
  ns[static_cast<std::size_t>(Work::norm)] = 100;
  ns[static_cast<std::size_t>(Work::experts)] = 298;
  ns[static_cast<std::size_t>(Work::data)] = 2;
  EXPECT_EQ(time_text(ns), "experts 30%  norm 10%  other 60%");
  EXPECT_EQ(time_text({}), "");
}

TEST(TimeSplit, TheTotalHasWhatIsBetweenSteps) {
  Timeline timeline;
  make_a_step(timeline);
  {
    const OwningSpan save(&timeline, Work::save, "save");
    const Span norm(&timeline, Work::norm, "inside");
    pause(300);
  }
  make_a_step(timeline);
  EXPECT_EQ(timeline.nanoseconds()[static_cast<std::size_t>(Work::save)], 0);
  EXPECT_GE(timeline.total()[static_cast<std::size_t>(Work::save)], 300'000);
  EXPECT_GE(timeline.total()[static_cast<std::size_t>(Work::attention)], 2 * 3 * 80'000);
}

}  // namespace
}  // namespace fourmi
