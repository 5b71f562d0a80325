// All tests of a GoogleTest program, a few in a process: a test that hangs or dies takes no other with it, and what
// comes after one that failed begins in a new process, so that its fault is not theirs.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "launch/gpu_check/part.h"

namespace fourmi::gpu_check {

/// From what --gtest_list_tests prints: "Suite.Name", without what may stand behind a '#'.
std::vector<std::string> listed_tests(const std::string& output);

/// What a process with some of the tests said of each: "passed", "failed", "skipped"; `running`: begun and not ended.
struct TestLines {
  std::vector<std::pair<std::string, std::string>> results;
  std::string running;
};
/// Up to the first failure; what stands behind it is not believed.
TestLines read_test_lines(const std::string& output);

struct TestProgram {
  std::string program;
  double silence = 45;              ///< seconds without a line; a test that gets on may print some
  int batch = 8;                    ///< tests in a process
  std::vector<std::string> last{};  ///< tests whose name contains one of these come last, in this order
};
/// Passed if each test passed; one that was skipped is counted, and all skipped is a failure.
Outcome run_test_program(const Job& job, const TestProgram& tests);

}  // namespace fourmi::gpu_check
