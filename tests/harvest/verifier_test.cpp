// The program that judges: what it says, how long it may take, and that nothing of it is left.
#include "framework/harvest/verifier.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <random>

#include "framework/harvest/backoff.h"
#include "framework/harvest/endpoint.h"
#include "kernels/runtime/error.h"
#include "tests/run/temp_folder.h"

namespace fourmi::testing {
namespace {

using harvest::verify;
using namespace std::chrono_literals;

TEST(HarvestVerifier, ExitStatusZeroKeeps) {
  EXPECT_TRUE(verify({"/bin/true"}, "", 10s).kept);
  EXPECT_FALSE(verify({"false"}, "", 10s).kept) << "found along the path";
  EXPECT_EQ(verify({"/bin/sh", "-c", "exit 3"}, "", 10s).why, "exit status 3");
  EXPECT_EQ(verify({"/bin/sh", "-c", "kill -9 $$"}, "", 10s).why, "signal 9");
  EXPECT_THROW(verify({"/nowhere/at/all"}, "", 10s), Error);
}

TEST(HarvestVerifier, GetsAllOfItsInput) {
  const std::string text(3 << 20, 'a');  // more than a pipe holds
  EXPECT_TRUE(verify({"/bin/sh", "-c", "test $(wc -c) = 3145728"}, text, 20s).kept);
  EXPECT_TRUE(verify({"/bin/true"}, text, 10s).kept) << "and may leave it unread";
}

TEST(HarvestVerifier, IsEndedWithAllThatItStarted) {
  TempFolder folder;
  const std::string file = (folder.path() / "child").string();
  const std::string script = "sleep 100 & echo $! > " + file + "; wait";
  const auto begin = std::chrono::steady_clock::now();
  const harvest::Verdict slow = verify({"/bin/sh", "-c", script}, "", 300ms);
  EXPECT_FALSE(slow.kept);
  EXPECT_EQ(slow.why, "no verdict in time");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 50s);
  const auto gone = [&] {
    const pid_t child = std::stoi(text_of(file));
    for (int i = 0; i < 500 && ::kill(child, 0) == 0; ++i) {
      if (text_of("/proc/" + std::to_string(child) + "/stat").find(") Z") != std::string::npos) return true;
      ::usleep(10'000);
    }
    return ::kill(child, 0) != 0;
  };
  EXPECT_TRUE(gone());
  EXPECT_TRUE(verify({"/bin/sh", "-c", "sleep 100 & echo $! > " + file}, "", 20s).kept);
  EXPECT_TRUE(gone()) << "left behind by one that ended in time";
}

TEST(HarvestBackoff, DoublesToItsBoundAndKeepsToWhatTheServerAsks) {
  std::mt19937_64 random(1);
  const harvest::Backoff backoff{1000ms, 60'000ms};
  for (int failures = 1; failures < 100; ++failures) {
    const auto full = std::min<std::int64_t>(60'000, failures > 10 ? 60'000 : 1000 << (failures - 1));
    const auto delay = backoff.delay(failures, std::nullopt, random).count();
    EXPECT_LE(delay, full);
    EXPECT_GE(delay, full / 2);
  }
  EXPECT_NE(backoff.delay(9, std::nullopt, random), backoff.delay(9, std::nullopt, random));
  EXPECT_EQ(backoff.delay(1, 90s, random), 90s);
  EXPECT_EQ(harvest::parse_retry_after("17"), 17s);
  EXPECT_EQ(harvest::parse_retry_after("-5"), 0s);
  EXPECT_EQ(harvest::parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), 0s);
  EXPECT_EQ(harvest::parse_retry_after("Fri, 31 Dec 2100 23:59:59 GMT"), 3600s);
  EXPECT_EQ(harvest::parse_retry_after("soon"), std::nullopt);
}

}  // namespace
}  // namespace fourmi::testing
