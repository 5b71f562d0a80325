// Ranks end themselves when a peer is lost, under a real launcher, with their main threads in MPI.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace {

namespace fs = std::filesystem;

class Mpirun : public testing::TestWithParam<std::tuple<std::string, int>> {};
INSTANTIATE_TEST_SUITE_P(FourRanks, Mpirun,
                         testing::Combine(testing::Values<std::string>("sigkill", "sigsegv", "exit_0", "exception"),
                                          testing::Values(0, 2)));

TEST_P(Mpirun, RanksEndThemselvesWhenAPeerIsLost) {
  const auto [how, lost] = GetParam();
  const fs::path folder = fs::temp_directory_path() / ("fourmi-lost-rank-" + std::to_string(getpid()));
  fs::remove_all(folder);
  fs::create_directories(folder);
  const std::string command = "timeout 20 " MPIRUN " -n 4 " LOST_RANK " " + how + " " + std::to_string(lost) + " " +
                              folder.string() + " > " + (folder / "output").string() + " 2>&1";
  const int status = std::system(command.c_str());
  const double over = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  ASSERT_TRUE(WIFEXITED(status));
  if (how == "exception") {
    EXPECT_EQ(WEXITSTATUS(status), 3) << "who announced ends first, so mpirun reports its status";
  } else {
    EXPECT_NE(WEXITSTATUS(status), 0);
  }
  const int first = lost == 0 ? 1 : 0;
  double told_seconds = 99, lost_at = 0;
  for (int r = 0; r < 4; ++r) {
    std::ifstream in(folder / ("rank-" + std::to_string(r)));
    if (r == lost) {
      EXPECT_FALSE(in.good()) << "the lost rank was called back";
      continue;
    }
    int rank = -1, phase = -1, reporter = -1, exit_status = -1;
    long step = -1;
    double seconds = 99, at = 0;
    in >> rank >> phase >> step >> reporter >> exit_status >> seconds >> at;
    // Once the reporter has ended, mpirun may be faster than the others.
    if (!in.good() && r != first) continue;
    EXPECT_TRUE(in.good()) << "rank " << r << " was not told";
    EXPECT_EQ(rank, lost) << "on rank " << r;
    EXPECT_EQ(phase, 5);
    EXPECT_EQ(step, 77);
    EXPECT_EQ(reporter, first);
    EXPECT_EQ(exit_status, how == "exception" ? 3 : 7);
    if (r == first) {
      told_seconds = seconds;
      lost_at = at;
    }
  }
  EXPECT_LT(told_seconds, 2.0) << "the target is 1 s";
  RecordProperty("told_ms", static_cast<int>(told_seconds * 1000));
  EXPECT_LT(over - lost_at, 5.0) << "from the loss to the end of mpirun";
  RecordProperty("over_ms", static_cast<int>((over - lost_at) * 1000));
  if (!HasFailure()) fs::remove_all(folder);
}

}  // namespace
