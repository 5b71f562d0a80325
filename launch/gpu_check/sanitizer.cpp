#include <fmt/format.h>
#include <unistd.h>

#include "launch/gpu_check/table.h"
#include "launch/gpu_check/test_program.h"

namespace fourmi::gpu_check {

namespace {

/// Tests that are small on the card and use what the tools look at: shared memory, barriers, odd sizes.
constexpr const char* small_tests[] = {
    "Bias.*",     "FillZero.*", "CopyColumns.*", "Rotary.*",  "SwiGlu.*",         "RmsNorm.*",    "Permute.*:Combine.*",
    "Quantize.*", "TreeSum.*",  "SumSquares.*",  "Routing.*", "RegroupColumns.*", "HopperGemm.*", "HopperWgrad.*"};
constexpr int status_of_a_finding = 86;

}  // namespace

Outcome check_under_sanitizer(const Job& job, const Places& places) {
  const std::string tests = places.beside / "test_card", tool = find_tool("compute-sanitizer");
  if (tool.empty()) return {Verdict::absent, "no compute-sanitizer on this machine", {}};
  if (::access(tests.c_str(), X_OK) != 0) return {Verdict::absent, fmt::format("{} is not built", tests), {}};
  Outcome outcome{Verdict::passed, "", {}};
  ordered_json runs = ordered_json::array();
  int clean = 0, found = 0, other = 0, left = 0;
  for (const char* kind : {"memcheck", "racecheck"})
    for (const char* filter : small_tests) {
      if (job.left() < 3) {
        ++left;
        continue;
      }
      const ChildEnd end =
          job.run({tool, "--tool", kind, "--error-exitcode", std::to_string(status_of_a_finding), "--print-limit", "5",
                   tests, std::string("--gtest_filter=") + filter, "--gtest_color=no"},
                  {.seconds = 40});
      // A tool that does not know this machine says so before the first test.
      if (clean + found == 0 && !end.well() && read_test_lines(end.output).results.empty() &&
          end.how == ChildEnd::How::exited)
        return {Verdict::absent,
                fmt::format("compute-sanitizer does not run here: {}", last_words(end, 200)),
                {{"said", last_words(end)}}};
      const bool finding = end.how == ChildEnd::How::exited && end.status == status_of_a_finding;
      ++(end.well() ? clean : finding ? found : other);
      runs.push_back({{"tool", kind}, {"tests", filter}, {"end", describe(end)}, {"seconds", end.seconds}});
      if (!end.well()) runs.back()["said"] = last_words(end, 4000);
    }
  outcome.verdict = found + other > 0 ? Verdict::failed : left > 0 ? Verdict::no_time : Verdict::passed;
  outcome.text =
      fmt::format("{} runs clean, {} with findings, {} ended otherwise, {} had no time", clean, found, other, left);
  outcome.figures = {{"runs", runs}};
  return outcome;
}

}  // namespace fourmi::gpu_check
