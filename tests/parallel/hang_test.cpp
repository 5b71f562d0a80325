// A run that gets nowhere: who is missing is found and said, on every rank, and nothing is found where only time
// passes.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "parallel/watchdog.h"
#include "parallel/watchdog_hang.h"
#include "tests/parallel/forked_ranks.h"
#include "tests/parallel/member_threads.h"
#include "tests/parallel/unstalled.h"

namespace fourmi {
namespace {

using namespace std::chrono_literals;
using watchdog::explain_hang;
using watchdog::RankView;

const WaitingCall gather57{Call::all_gather, "world", 57}, barrier58{Call::barrier, "world", 58},
    sum3{Call::all_sum, "data", 3};

TEST(HangVerdict, WhoDoesNotRunIsMissing) {
  const RankView views[] = {{false, false, 12s, gather57},
                            {false, false, 12s, gather57},
                            {false, true, 13s, {}},
                            {false, false, 12s, gather57}};
  const auto v = explain_hang(views, 12s);
  EXPECT_EQ(v.rank, 2);
  EXPECT_NE(v.cause.find("rank 2 does not run"), std::string::npos) << v.cause;
  EXPECT_NE(v.cause.find("ranks 0, 1, 3 wait in all_gather 57 of group world"), std::string::npos) << v.cause;
  EXPECT_NE(v.cause.find("expected some rank to get on within 12 s"), std::string::npos) << v.cause;
}

TEST(HangVerdict, WhoIsInNoCallIsMissing) {
  const RankView views[] = {
      {false, false, 300ms, sum3}, {false, false, 400ms, {}}, {true, false, 0ms, {}}, {false, false, 300ms, gather57}};
  const auto v = explain_hang(views, 300ms);
  EXPECT_EQ(v.rank, 1);
  EXPECT_NE(v.cause.find("rank 1 got no further for 0.4 s, in no call of a group"), std::string::npos) << v.cause;
  EXPECT_NE(v.cause.find("rank 0 waits in all_sum 3 of group data"), std::string::npos) << v.cause;
  EXPECT_NE(v.cause.find("rank 3 waits in all_gather 57 of group world"), std::string::npos) << v.cause;
}

TEST(HangVerdict, WhoIsInAnEarlierCallOfTheSameGroupIsMissing) {
  const RankView views[] = {{false, false, 1s, barrier58}, {false, false, 1s, gather57}, {false, false, 1s, barrier58}};
  const auto v = explain_hang(views, 1s);
  EXPECT_EQ(v.rank, 1);
  EXPECT_NE(v.cause.find("rank 1 has not come to the call"), std::string::npos) << v.cause;
  EXPECT_NE(v.cause.find("waits in all_gather 57"), std::string::npos) << v.cause;
  EXPECT_NE(v.cause.find("ranks 0, 2 wait in barrier 58"), std::string::npos) << v.cause;
}

TEST(HangVerdict, NobodyIsMissingWhereAllAreInOneCall) {
  const RankView views[] = {{false, false, 1s, gather57}, {false, false, 1s, gather57}};
  EXPECT_NE(explain_hang(views, 1s).cause.find("all ranks wait for one another"), std::string::npos);
}

TEST(HangVerdict, BeatsSurviveTheWire) {
  std::chrono::milliseconds idle{0};
  WaitingCall call;
  ASSERT_TRUE(watchdog::from_beat(watchdog::to_beat(1234ms, {Call::all_sum, "a group of blanks", 99}), idle, call));
  EXPECT_EQ(idle, 1234ms);
  EXPECT_EQ(call, (WaitingCall{Call::all_sum, "a group of blanks", 99}));
  ASSERT_TRUE(watchdog::from_beat(watchdog::to_beat(7ms, {}), idle, call));
  EXPECT_EQ(call, WaitingCall{});
  EXPECT_FALSE(watchdog::from_beat("nonsense", idle, call));
}

TEST(HangVerdict, RankListsAreShort) {
  const int all[] = {0, 1, 2, 3, 5, 8, 9};
  EXPECT_EQ(watchdog::rank_list(all), "ranks 0-3, 5, 8, 9");
  EXPECT_EQ(watchdog::rank_list(std::span(all).subspan(4, 1)), "rank 5");
}

// What a rank of a real group notes: the outer call's name, the same number on all members, nothing once it is over.
TEST(CallNotes, SayWhichCallARankWaitsIn) {
  auto groups = make_thread_groups("world", 2);
  WaitingCall seen;
  std::thread waits([&] {
    std::int64_t sum[1] = {1};
    groups[0]->barrier();
    groups[0]->all_sum(std::span(sum));
    const int both[] = {0, 1};
    groups[0]->subgroup("data", both)->barrier();
  });
  const auto wait_for = [&](Call call) {
    for (int i = 0; i < 5000 && groups[0]->calls()->waiting().call != call; ++i) std::this_thread::sleep_for(1ms);
    return groups[0]->calls()->waiting();
  };
  EXPECT_EQ(wait_for(Call::barrier), (WaitingCall{Call::barrier, "world", 1}));
  groups[1]->barrier();
  EXPECT_EQ(wait_for(Call::all_sum), (WaitingCall{Call::all_sum, "world", 2}));
  std::int64_t sum[1] = {2};
  groups[1]->all_sum(std::span(sum));
  EXPECT_EQ(wait_for(Call::barrier), (WaitingCall{Call::barrier, "data", 1}))
      << "a subgroup notes where its parent does";
  const int both[] = {0, 1};
  groups[1]->subgroup("data", both)->barrier();
  waits.join();
  EXPECT_EQ(groups[0]->calls()->waiting(), WaitingCall{});
  EXPECT_GT(groups[0]->calls()->num_left(), 0u);
}

constexpr HangLimit limit{.limit = 400ms, .slow_phases = 1u << 1};

struct Told {
  int rank;
  std::string cause;
};
/// All ranks but `stopped` were told the same in time, and all processes are gone.
void expect_hang(Problems& problems, const ForkedReport* reports, int size, int stopped, const Told& told,
                 double begin) {
  for (int r = 0; r < size; ++r) {
    const ForkedReport& report = reports[r];
    const std::string on = " on rank " + std::to_string(r);
    if (r == stopped) {
      problems.equal(WIFSIGNALED(report.wait_status) ? WTERMSIG(report.wait_status) : 0, SIGKILL, "end" + on);
      continue;
    }
    problems.equal(report.callbacks, 1, "callbacks" + on);
    problems.equal(report.rank, told.rank, "rank" + on);
    problems.equal(report.exit_status, 7, "exit status" + on);
    problems.at_most(0.35, report.called_at - begin, "no sooner than the limit" + on);
    problems.at_most(report.called_at - begin, 5.0, "callback" + on);
    problems.equal(WIFEXITED(report.wait_status) ? WEXITSTATUS(report.wait_status) : -1, 7, "end" + on);
    // Rank 0 is killed by the first that finds it stopped, the reporter; the others then hear of its end.
    if (stopped == 0 && r != 1) continue;
    if (std::string(report.cause).find(told.cause) == std::string::npos)
      problems.add("cause '" + std::string(report.cause) + "'" + on);
  }
}

enum class Stuck { stopped, spinning, elsewhere };
class Hang : public testing::TestWithParam<std::tuple<Stuck, int>> {};
INSTANTIATE_TEST_SUITE_P(Rank, Hang,
                         testing::Combine(testing::Values(Stuck::stopped, Stuck::spinning, Stuck::elsewhere),
                                          testing::Values(0, 1, 3)));

// Three ranks wait in a call that the fourth does not come to.
TEST_P(Hang, IsFoundAndItsRankNamed) {
  const auto [how, lost] = GetParam();
  run_unstalled([how = how, lost = lost] {
    const double begin = steady_seconds();
    const auto* reports = run_forked(4, [how, lost](Group& group, ForkedReport& report) {
      Watchdog watchdog(group, note_loss(report, true), limit);
      watchdog.set_phase(4, 12);
      group.barrier();
      try {
        if (group.rank() == lost) {
          if (how == Stuck::stopped) raise(SIGSTOP);
          for (volatile bool spin = how == Stuck::spinning; spin;) continue;
          std::byte nothing{};
          group.start_receive({&nothing, 1}, (lost + 1) % 4, 5).wait();  // a message that nobody sends
        }
        group.barrier();
      } catch (const std::exception&) {
        watchdog.wait_for_loss(std::chrono::seconds(5));  // the echo of a rank that has already ended
        throw;
      }
    });
    Problems problems;
    const std::string rank = "rank " + std::to_string(lost);
    expect_hang(
        problems, reports, 4, how == Stuck::stopped ? lost : -1,
        {lost, how == Stuck::stopped    ? rank + " does not run"
               : how == Stuck::spinning ? rank + " got no further"
                                        : rank + " has not come to the call that others wait in, but waits in receive"},
        begin);
    for (int r = 0; r < 4; ++r)
      if (r != lost && (how != Stuck::stopped || lost != 0 || r == 1) &&
          std::string(reports[r].cause).find("in barrier ") == std::string::npos)
        problems.add("the others' call is not in '" + std::string(reports[r].cause) + "'");
    return problems;
  });
}

TEST(HangOf, OneRankIsFoundToo) {
  run_unstalled([] {
    const double begin = steady_seconds();
    const auto* reports = run_forked(1, [](Group& group, ForkedReport& report) {
      Watchdog watchdog(group, note_loss(report, true), limit);
      watchdog.set_phase(4, 12);
      for (volatile bool spin = true; spin;) continue;
    });
    Problems problems;
    expect_hang(problems, reports, 1, -1, {0, "rank 0 got no further"}, begin);
    return problems;
  });
}

// Progress on one rank is progress; so is a phase of its own kind that may be slow; and what follows a goodbye is
// nobody's business.
TEST(HangOf, NobodyIsFoundWhereSomeRankGetsOn) {
  run_unstalled([] {
    const auto* reports = run_forked(3, [](Group& group, ForkedReport& report) {
      Watchdog watchdog(group, note_loss(report, true), limit);
      group.barrier();
      if (group.rank() == 1)  // rank 1 works, the others wait for it
        for (int i = 0; i < 30; ++i) {
          watchdog.set_phase(3, 7);
          std::this_thread::sleep_for(50ms);
        }
      group.barrier();
      watchdog.set_phase(1, 7);  // slow: ten times the limit
      std::this_thread::sleep_for(1200ms);
      group.barrier();
      watchdog.goodbye();
      std::this_thread::sleep_for(1200ms);
    });
    Problems problems;
    for (int r = 0; r < 3; ++r) {
      problems.equal(reports[r].callbacks, 0, std::string("callbacks (") + reports[r].cause + ")");
      problems.equal(reports[r].wait_status, 0, "end");
    }
    return problems;
  });
}

// Ctrl-Z, a suspended machine: all stand still, for much longer than the limit, and go on.
TEST(HangOf, AJobThatWasStoppedAsAWholeGoesOn) {
  auto* ids = static_cast<pid_t*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  run_unstalled([ids] {
    const auto* reports = run_forked(3, [ids](Group& group, ForkedReport& report) {
      Watchdog watchdog(group, note_loss(report, true), limit);
      watchdog.set_phase(4, 12);
      ids[group.rank()] = getpid();
      group.barrier();
      if (group.rank() == 2 && fork() == 0) {
        alarm(30);
        for (int r : {1, 2, 0}) kill(ids[r], SIGSTOP);
        std::this_thread::sleep_for(1500ms);
        for (int r : {0, 1, 2}) kill(ids[r], SIGCONT);
        _exit(0);
      }
      for (int i = 0; i < 20; ++i) {
        watchdog.set_phase(4, 12);
        std::this_thread::sleep_for(20ms);
      }
      group.barrier();
      watchdog.goodbye();
    });
    Problems problems;
    for (int r = 0; r < 3; ++r)
      problems.equal(reports[r].callbacks, 0, std::string("callbacks (") + reports[r].cause + ")");
    return problems;
  });
}

}  // namespace
}  // namespace fourmi
