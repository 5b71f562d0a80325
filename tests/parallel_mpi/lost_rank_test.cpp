// Ranks end themselves when a peer is lost, under a real launcher, with their main threads in MPI.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/parallel/unstalled.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;

class Mpirun : public testing::TestWithParam<std::tuple<std::string, int>> {};
INSTANTIATE_TEST_SUITE_P(FourRanks, Mpirun,
                         testing::Combine(testing::Values<std::string>("sigkill", "sigsegv", "exit_0", "exception"),
                                          testing::Values(0, 2)));

Problems lose_a_rank(const std::string& how, int lost) {
  Problems problems;
  const fs::path folder = fs::temp_directory_path() / ("fourmi-lost-rank-" + std::to_string(getpid()));
  fs::remove_all(folder);
  fs::create_directories(folder);
  const std::string command = "timeout 20 " MPIRUN " -n 4 " LOST_RANK " " + how + " " + std::to_string(lost) + " " +
                              folder.string() + " > " + (folder / "output").string() + " 2>&1";
  const int status = std::system(command.c_str());
  const double over = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (how == "exception") {
    problems.equal(code, 3, "status of mpirun (who announced ends first, so it is that rank's)");
  } else if (code <= 0) {
    problems.add("mpirun ended well");
  }
  const int first = lost == 0 ? 1 : 0;
  for (int r = 0; r < 4; ++r) {
    const std::string on = " on rank " + std::to_string(r);
    std::ifstream in(folder / ("rank-" + std::to_string(r)));
    if (r == lost && in.good()) problems.add("the lost rank was called back");
    // Once the reporter has ended, mpirun may be faster than the others.
    if (r == lost || (!in.good() && r != first)) continue;
    int rank = -1, phase = -1, reporter = -1, exit_status = -1;
    long step = -1;
    double seconds = 99, at = 0;
    in >> rank >> phase >> step >> reporter >> exit_status >> seconds >> at;
    problems.equal(rank, lost, "lost rank" + on);
    problems.equal(phase, 5, "phase" + on);
    problems.equal(step, 77, "step" + on);
    problems.equal(reporter, first, "reporter" + on);
    problems.equal(exit_status, how == "exception" ? 3 : 7, "exit status" + on);
    if (r != first) continue;
    problems.at_most(seconds, 1.0, "seconds until the reporter was told");
    problems.at_most(over - at, 5.0, "seconds from the loss to the end of mpirun");
    testing::Test::RecordProperty("told_ms", static_cast<int>(seconds * 1000));
    testing::Test::RecordProperty("over_ms", static_cast<int>((over - at) * 1000));
  }
  fs::remove_all(folder);
  return problems;
}

TEST_P(Mpirun, RanksEndThemselvesWhenAPeerIsLost) {
  run_unstalled([&] { return lose_a_rank(std::get<0>(GetParam()), std::get<1>(GetParam())); });
}

}  // namespace
}  // namespace fourmi
