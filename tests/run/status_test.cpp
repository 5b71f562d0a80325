#include "framework/run/status.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "framework/run/host.h"
#include "tests/run/injected_io.h"
#include "tests/run/temp_folder.h"

namespace fourmi {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

Ending lost(int rank) {
  return {ExitStatus::rank_lost, rank, "node7", "rank 2 was lost in forward", "train", "Start it again"};
}

TEST(Status, RunningIsWrittenAtMostOnceAPeriod) {
  const TempFolder folder;
  StatusFile status(folder.path(), 3, std::chrono::hours(1));
  status.set_step(41);
  status.set_phase("forward");
  status.set_checkpoint("checkpoints/step-00000040");
  EXPECT_TRUE(status.tick());
  auto view = read_status(folder.path());
  ASSERT_TRUE(view);
  EXPECT_EQ(view->state, "running");
  EXPECT_EQ(view->step, 41);
  EXPECT_EQ(view->launches, 3);
  EXPECT_EQ(view->phase, "forward");
  EXPECT_EQ(view->checkpoint, "checkpoints/step-00000040");
  EXPECT_EQ(view->host, host_name());
  EXPECT_FALSE(view->exit_status);
  EXPECT_FALSE(view->rank);
  status.set_step(42);
  EXPECT_TRUE(status.tick());
  EXPECT_EQ(read_status(folder.path())->step, 41);

  StatusFile eager(folder.path(), 3, milliseconds(0));
  eager.set_step(43);
  EXPECT_TRUE(eager.tick());
  EXPECT_EQ(read_status(folder.path())->step, 43);
}

TEST(Status, EveryKeyOfTheContractIsThere) {
  const TempFolder folder;
  StatusFile status(folder.path(), 1);
  ASSERT_TRUE(
      status.write_final(Ending::of(Error(ExitStatus::input, "a \"place\"", "found, expected", "remedy"), 2, "h")));
  const std::string text = text_of(folder.path() / "status.json");
  for (const char* key : {"state", "exit_status", "step", "checkpoint", "rank", "host", "cause", "place", "remedy",
                          "launches", "phase"}) {
    EXPECT_NE(text.find(fmt::format("\"{}\":", key)), std::string::npos) << key;
  }
  const auto view = read_status(folder.path());
  EXPECT_EQ(view->state, "failed");
  EXPECT_EQ(view->exit_status, 4);
  EXPECT_EQ(view->rank, 2);
  EXPECT_EQ(view->host, "h");
  EXPECT_EQ(view->place, "a \"place\"");
  EXPECT_EQ(view->cause, "found, expected");
  EXPECT_EQ(view->remedy, "remedy");
}

TEST(Status, StateFollowsTheExitStatus) {
  EXPECT_EQ(state_of(ExitStatus::ok), RunState::done);
  EXPECT_EQ(state_of(ExitStatus::stopped), RunState::stopped);
  EXPECT_EQ(state_of(ExitStatus::budget), RunState::stopped);
  for (const auto status : {ExitStatus::bug, ExitStatus::usage, ExitStatus::environment, ExitStatus::input,
                            ExitStatus::guard, ExitStatus::rank_lost}) {
    EXPECT_EQ(state_of(status), RunState::failed);
  }
}

TEST(Status, NothingFollowsTheEnd) {
  const TempFolder folder;
  StatusFile status(folder.path(), 1, milliseconds(0));
  EXPECT_TRUE(status.write_final(
      {.exit_status = ExitStatus::ok, .rank = {}, .host = {}, .cause = {}, .place = {}, .remedy = {}}));
  EXPECT_TRUE(status.tick());
  EXPECT_TRUE(status.write_final(lost(1)));
  EXPECT_EQ(read_status(folder.path())->state, "done");
}

TEST(Status, ACauseWinsOverALostRankWhicheverCameFirst) {
  const Ending cause{ExitStatus::environment, 2, "node7", "no memory", "forward", ""};
  for (const bool cause_first : {true, false}) {
    const TempFolder folder;
    StatusFile rank0(folder.path(), 1, milliseconds(0)), rank2(folder.path(), 1);
    EXPECT_TRUE(rank0.tick());
    EXPECT_TRUE(cause_first ? rank2.write_final(cause) : rank0.write_final(lost(2)));
    EXPECT_TRUE(cause_first ? rank0.write_final(lost(2)) : rank2.write_final(cause));
    EXPECT_EQ(read_status(folder.path())->exit_status, 3) << cause_first;
    EXPECT_EQ(read_status(folder.path())->cause, "no memory") << cause_first;
  }
}

TEST(Status, TheFirstCauseStays) {
  const TempFolder folder;
  StatusFile a(folder.path(), 1), b(folder.path(), 1);
  EXPECT_TRUE(a.write_final({ExitStatus::input, 0, "h", "first", "p", ""}));
  EXPECT_TRUE(b.write_final({ExitStatus::environment, 1, "h", "second", "p", ""}));
  EXPECT_EQ(read_status(folder.path())->cause, "first");
}

TEST(Status, ANewLaunchReplacesAnOldEndAndAnOldProcessDoesNotReplaceANewLaunch) {
  const TempFolder folder;
  StatusFile old_one(folder.path(), 1, milliseconds(0));
  StatusFile first(folder.path(), 1);
  EXPECT_TRUE(first.write_final(lost(1)));
  StatusFile second(folder.path(), 2, milliseconds(0));
  EXPECT_TRUE(second.tick());
  EXPECT_EQ(read_status(folder.path())->state, "running");
  EXPECT_EQ(read_status(folder.path())->launches, 2);
  EXPECT_FALSE(old_one.tick());
  EXPECT_TRUE(old_one.write_final(lost(1)));
  EXPECT_EQ(read_status(folder.path())->launches, 2);
  EXPECT_EQ(read_status(folder.path())->state, "running");
}

TEST(Status, WatchdogWritesAlthoughTheMainThreadHangsInTheDisk) {
  const TempFolder folder;
  StatusFile status(folder.path(), 1, milliseconds(0));
  status.set_phase("save");
  injected::arm(injected::Fault::hang, 1);
  std::thread main_thread([&] { status.tick(); });
  while (injected::calls() == 0) std::this_thread::yield();
  const auto start = Clock::now();
  EXPECT_TRUE(status.write_final(lost(2)));
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(3));
  EXPECT_EQ(read_status(folder.path())->state, "failed");
  EXPECT_EQ(read_status(folder.path())->phase, "save");
  injected::disarm();
  main_thread.join();
  EXPECT_EQ(read_status(folder.path())->state, "failed") << "a late write undid the end";
}

TEST(Status, TheEndIsWrittenOnAFullDisk) {
  const TempFolder folder;
  StatusFile status(folder.path(), 1, milliseconds(0));
  status.set_checkpoint(std::string(200, 'x'));
  ASSERT_TRUE(status.tick());
  injected::arm(injected::Fault::disk_full, 1);
  status.set_step(5);
  EXPECT_FALSE(status.tick());
  EXPECT_EQ(read_status(folder.path())->step, 0);
  status.set_checkpoint("");
  EXPECT_TRUE(status.write_final(lost(2)));
  injected::disarm();
  const auto view = read_status(folder.path());
  ASSERT_TRUE(view);
  EXPECT_EQ(view->state, "failed");
  EXPECT_EQ(view->step, 5);
}

TEST(Status, BytesThatAreNoTextDoNotPreventIt) {
  const TempFolder folder;
  StatusFile status(folder.path(), 1);
  EXPECT_TRUE(status.write_final({ExitStatus::input, 0, "h", "a name \xff\xfe", "p\n", ""}));
  EXPECT_EQ(read_status(folder.path())->exit_status, 4);
}

TEST(Status, AnUnwritableDirectoryIsSaidNotThrown) {
  const TempFolder folder;
  StatusFile status(folder.path() / "absent", 1);
  EXPECT_FALSE(status.tick());
  EXPECT_FALSE(status.write_final(lost(0)));
}

TEST(Status, ManyThreadsAtOnceLeaveAWholeFile) {
  const TempFolder folder;
  StatusFile status(folder.path(), 1, milliseconds(0));
  ASSERT_TRUE(status.tick());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        status.set_step(i);
        status.set_checkpoint(std::string(static_cast<std::size_t>(i), 'c'));
        if (t == 3 && i == 25) status.write_final(lost(3));
        status.tick();
        EXPECT_TRUE(read_status(folder.path()).has_value());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(read_status(folder.path())->state, "failed");
}

}  // namespace
}  // namespace fourmi
