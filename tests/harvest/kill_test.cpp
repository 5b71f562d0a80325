// kill -9 at seeded moments: what was paid for is never asked again, and each prompt is answered once in the output.
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <random>

#include "tests/harvest/small_harvest.h"

extern char** environ;

namespace fourmi::testing {
namespace {

class Killed : public SmallHarvest, public ::testing::WithParamInterface<int> {
 protected:
  pid_t start() const {
    const std::string url = endpoint.url(), folder = temp.path().string();
    std::vector<char*> words;
    for (const char* word : {HARVEST_CHILD, url.c_str(), folder.c_str()}) words.push_back(const_cast<char*>(word));
    words.push_back(nullptr);
    pid_t child = -1;
    EXPECT_EQ(::posix_spawn(&child, HARVEST_CHILD, nullptr, nullptr, words.data(), environ), 0);
    return child;
  }
};

TEST_P(Killed, AtAnyMomentItLosesNoMoreThanWhatWasUnderWay) {
  const int kills = GetParam(), num_prompts = 25 * kills;
  constexpr int concurrency = 4;  // child.cpp's
  prompts(num_prompts);
  endpoint.delay_ms = 2;
  endpoint.fault = [](const std::string& prompt, int n) {
    return n == 0 && prompt.back() == '7' ? Fault::too_many : Fault::none;
  };
  std::mt19937_64 random(20261123);
  int killed = 0;
  for (int k = 0; k < kills; ++k) {
    const int goal = endpoint.requests() + static_cast<int>(random() % 30);
    const auto later = std::chrono::microseconds(random() % 4000);
    const pid_t child = start();
    int status = 0;
    bool ended = false;
    while (!ended && endpoint.requests() < goal) {
      ended = ::waitpid(child, &status, WNOHANG) == child;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    std::this_thread::sleep_for(later);
    if (!ended) {
      ::kill(child, SIGKILL);
      ASSERT_EQ(::waitpid(child, &status, 0), child);
    }
    killed += WIFSIGNALED(status);
    EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0) << status;
    if (std::filesystem::exists(log()) && std::filesystem::file_size(log()) > 0) {
      EXPECT_LE(most_at_stake(), harvest::money_of(1));
    }
  }
  EXPECT_GE(killed, kills / 2);
  int status = 0;
  ASSERT_EQ(::waitpid(start(), &status, 0) > 0, true);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;

  const std::vector<std::string> got = prompts_answered();
  EXPECT_EQ(static_cast<int>(got.size()), num_prompts);
  EXPECT_EQ(static_cast<int>(std::set<std::string>(got.begin(), got.end()).size()), num_prompts);
  EXPECT_LE(endpoint.answered() - num_prompts, killed * concurrency);
  EXPECT_LE(most_at_stake(), harvest::money_of(1));
  RecordProperty("asked_twice", endpoint.answered() - num_prompts);
  std::cout << killed << " kills, " << endpoint.requests() << " requests, " << endpoint.answered() - num_prompts
            << " answers paid for twice\n";
}

INSTANTIATE_TEST_SUITE_P(Short, Killed, ::testing::Values(8));
INSTANTIATE_TEST_SUITE_P(Long, Killed, ::testing::Values(100));

}  // namespace
}  // namespace fourmi::testing
