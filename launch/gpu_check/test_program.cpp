#include "launch/gpu_check/test_program.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <deque>

namespace fourmi::gpu_check {

namespace {

std::size_t rank_of(const std::string& test, const std::vector<std::string>& last) {
  for (std::size_t i = 0; i < last.size(); ++i)
    if (test.find(last[i]) != std::string::npos) return i + 1;
  return 0;
}

/// Of all tests so far.
struct Tally {
  std::int64_t passed = 0, failed = 0, skipped = 0, hung = 0;
  ordered_json bad = ordered_json::array();

  void add(const std::string& test, const std::string& result, const std::string& said) {
    (result == "passed" ? passed : result == "skipped" ? skipped : result == "hung" ? hung : failed)++;
    if (result != "passed" && result != "skipped") bad.push_back({{"test", test}, {"result", result}, {"said", said}});
  }
};

/// Takes what one process did with `batch` off it. A process that ends without a word of any test has failed at the
/// first.
void take_results(const ChildEnd& end, std::deque<std::string>& batch, Tally& tally) {
  const TestLines lines = read_test_lines(end.output);
  const auto done = [&](const std::string& test) { batch.erase(std::find(batch.begin(), batch.end(), test)); };
  for (const auto& [test, result] : lines.results) {
    if (std::find(batch.begin(), batch.end(), test) == batch.end()) continue;
    tally.add(test, result, result == "failed" ? last_words(end) : "");
    done(test);
  }
  const bool failed_last = !lines.results.empty() && lines.results.back().second == "failed";
  if (end.well() || end.how == ChildEnd::How::late || (failed_last && end.how == ChildEnd::How::exited)) {
    if (!end.well() || batch.empty()) return;
  }
  if (batch.empty()) return tally.add(lines.results.back().first, "after it: " + describe(end), last_words(end));
  const bool inside = std::find(batch.begin(), batch.end(), lines.running) != batch.end();
  const std::string test = inside ? lines.running : batch.front();
  tally.add(test, end.how == ChildEnd::How::hung || end.how == ChildEnd::How::stuck ? "hung" : describe(end),
            last_words(end));
  done(test);
}

}  // namespace

Outcome run_test_program(const Job& job, const TestProgram& tests) {
  if (::access(tests.program.c_str(), X_OK) != 0)
    return {Verdict::absent, fmt::format("{} is not built", tests.program), {}};
  const ChildEnd listed = job.run({tests.program, "--gtest_list_tests"}, {.seconds = 60});
  std::vector<std::string> all = listed_tests(listed.output);
  if (!listed.well() || all.empty())
    return {Verdict::failed,
            fmt::format("listing the tests of {}: {}: {}", tests.program, describe(listed), last_words(listed, 200)),
            {}};
  std::stable_sort(all.begin(), all.end(), [&](const std::string& a, const std::string& b) {
    return rank_of(a, tests.last) < rank_of(b, tests.last);
  });

  std::deque<std::string> waiting(all.begin(), all.end());
  Tally tally;
  while (!waiting.empty() && job.left() > 1) {
    const auto count = std::min(waiting.size(), static_cast<std::size_t>(tests.batch));
    std::deque<std::string> batch(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(count));
    waiting.erase(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(count));
    std::string filter;
    for (const std::string& test : batch) filter += (filter.empty() ? "" : ":") + test;
    const ChildEnd end = job.run({tests.program, "--gtest_filter=" + filter, "--gtest_fail_fast", "--gtest_color=no"},
                                 {.seconds = job.left(), .silence = tests.silence});
    take_results(end, batch, tally);
    waiting.insert(waiting.begin(), batch.begin(), batch.end());
  }

  Outcome outcome;
  outcome.verdict = tally.hung > 0                                               ? Verdict::hung
                    : tally.failed > 0 || (tally.passed == 0 && waiting.empty()) ? Verdict::failed
                    : !waiting.empty()                                           ? Verdict::no_time
                                                                                 : Verdict::passed;
  outcome.text = fmt::format("{} tests: {} passed, {} failed, {} hung, {} skipped, {} had no time", all.size(),
                             tally.passed, tally.failed, tally.hung, tally.skipped, waiting.size());
  for (std::size_t i = 0; i < std::min<std::size_t>(3, tally.bad.size()); ++i)
    outcome.text += fmt::format("{} {}", i == 0 ? ":" : ",", tally.bad[i]["test"].get<std::string>());
  outcome.figures = {{"program", tests.program},
                     {"tests", all.size()},
                     {"passed", tally.passed},
                     {"failed", tally.failed},
                     {"hung", tally.hung},
                     {"skipped", tally.skipped},
                     {"no_time", std::vector<std::string>(waiting.begin(), waiting.end())},
                     {"bad", tally.bad}};
  return outcome;
}

}  // namespace fourmi::gpu_check
