// GoogleTest's lines: "[ RUN      ] Suite.Name", then "[       OK ] Suite.Name (3 ms)", "[  FAILED  ] ..." or
// "[  SKIPPED ] ...".
#include <sstream>

#include "launch/gpu_check/test_program.h"

namespace fourmi::gpu_check {

namespace {

std::string without_comment(std::string text) {
  text.erase(std::min(text.find('#'), text.size()));
  while (!text.empty() && (text.back() == ' ' || text.back() == '\r')) text.pop_back();
  return text;
}

/// "Suite.Name, where GetParam() = 3 (2 ms)" -> "Suite.Name"
std::string first_word(const std::string& text) {
  return text.substr(0, text.find_first_of(", ("));
}

}  // namespace

std::vector<std::string> listed_tests(const std::string& output) {
  std::vector<std::string> tests;
  std::string suite;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    const std::string text = without_comment(line);
    if (text.starts_with("  ") && !suite.empty())
      tests.push_back(suite + text.substr(2));
    else
      suite = text.ends_with('.') && text.find(' ') == std::string::npos ? text : "";
  }
  return tests;
}

TestLines read_test_lines(const std::string& output) {
  TestLines found;
  std::istringstream lines(output);
  constexpr std::string_view run = "[ RUN      ] ";
  constexpr std::pair<std::string_view, const char*> ends[] = {
      {"[       OK ] ", "passed"}, {"[  FAILED  ] ", "failed"}, {"[  SKIPPED ] ", "skipped"}};
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(run)) {
      found.running = line.substr(run.size());
      continue;
    }
    // A test may have written the beginning of the line.
    for (const auto& [mark, result] : ends) {
      const auto at = line.find(mark);
      if (at == std::string::npos || found.running.empty()) continue;
      if (first_word(line.substr(at + mark.size())) != found.running) continue;
      found.results.emplace_back(found.running, result);
      found.running.clear();
      if (found.results.back().second == "failed") return found;
    }
  }
  return found;
}

}  // namespace fourmi::gpu_check
