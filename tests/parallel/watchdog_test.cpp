#include "parallel/watchdog.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <thread>

#include "parallel/watchdog_link.h"
#include "tests/parallel/forked_ranks.h"
#include "tests/parallel/unstalled.h"

namespace fourmi {
namespace {

using namespace std::chrono_literals;

constexpr double detection_limit = 1.0;

enum class End { sigkill, sigsegv, exit_0, abort, announce, exception };

[[maybe_unused]] void PrintTo(End end, std::ostream* out) {
  static constexpr const char* names[] = {"SIGKILL", "SIGSEGV", "exit 0", "abort", "announce", "exception"};
  *out << names[static_cast<int>(end)];
}

// Ends this process. `watchdog` is taken, so that an exception's unwinding can be played.
void die(End how, std::unique_ptr<Watchdog> watchdog, ForkedReport& report) {
  report.died_at = steady_seconds();
  switch (how) {
    case End::sigkill:
      kill(getpid(), SIGKILL);
      break;
    case End::sigsegv:
      raise(SIGSEGV);
      break;
    case End::exit_0:
      syscall(SYS_exit_group, 0);  // _exit, which ThreadSanitizer delays by a second
      break;
    case End::abort:
      abort();
    case End::announce:
      report.announced = watchdog->announce_failure("disk full, expected 3 GB", 3);
      break;
    case End::exception:
      watchdog.reset();
      break;
  }
  std::this_thread::sleep_for(300ms);
  report.ended_at = steady_seconds();
}

void check_told(Problems& problems, const ForkedReport* reports, int size, int lost, const std::string& cause,
                int exit_status) {
  char host[64] = {};
  gethostname(host, sizeof host - 1);
  const double told = reports[lost == 0 ? 1 : 0].called_at - reports[lost].died_at;
  for (int r = 0; r < size; ++r) {
    const ForkedReport& report = reports[r];
    const std::string on = " on rank " + std::to_string(r);
    problems.equal(report.callbacks, r == lost ? 0 : 1, "callbacks" + on);
    if (r == lost || report.callbacks == 0) continue;
    problems.equal(report.rank, lost, "lost rank" + on);
    problems.equal(report.phase, 4, "phase" + on);
    problems.equal(report.step, 1042, "step" + on);
    problems.equal(report.exit_status, exit_status, "exit status" + on);
    problems.equal(report.reporter, lost == 0 ? 1 : 0, "reporter" + on);
    problems.equal(report.told_announced, exit_status != 7, "announced" + on);
    problems.equal(std::string(report.host), host, "host" + on);
    if (std::string(report.cause).find(cause) == std::string::npos)
      problems.add("cause " + std::string(report.cause) + on);
    problems.equal(WIFEXITED(report.wait_status) ? WEXITSTATUS(report.wait_status) : -1, 7, "end" + on);
    problems.at_most(told, report.called_at - reports[lost].died_at, "the reporter was told after" + on);
    problems.at_most(report.called_at - reports[lost].died_at, told + 1 + detection_limit, "callback" + on);
  }
  problems.at_most(told, detection_limit, "seconds until the reporter was told");
  testing::Test::RecordProperty("milliseconds", static_cast<int>(told * 1000));
}

class LostRank : public testing::TestWithParam<std::tuple<End, int, int>> {};
INSTANTIATE_TEST_SUITE_P(FourRanks, LostRank,
                         testing::Combine(testing::Values(End::sigkill, End::sigsegv, End::exit_0, End::abort,
                                                          End::announce, End::exception),
                                          testing::Values(0, 1, 3), testing::Values(4)));
INSTANTIATE_TEST_SUITE_P(TwoRanks, LostRank,
                         testing::Combine(testing::Values(End::sigkill, End::announce), testing::Values(0, 1),
                                          testing::Values(2)));

// What a reporter does takes its time: 100 ms. The main threads of the others sleep, as if stuck in MPI. The lost rank
// dies right after it entered its last phase.
TEST_P(LostRank, IsKnownToAllOthersWithItsPhase) {
  const auto [how, lost, size] = GetParam();
  run_unstalled([how = how, lost = lost, size = size] {
    const auto* reports = run_forked(size, [how, lost](Group& group, ForkedReport& report) {
      const auto note = note_loss(report, true);
      auto watchdog = std::make_unique<Watchdog>(group, [&](const Loss& loss) {
        if (loss.reporter == group.rank()) std::this_thread::sleep_for(100ms);
        note(loss);
      });
      watchdog->set_phase(2, 1041);
      group.barrier();
      if (group.rank() == lost) {
        watchdog->set_phase(4, 1042);
        die(how, std::move(watchdog), report);
      } else {
        watchdog->set_phase(3, 1042);
        std::this_thread::sleep_for(10s);
      }
    });
    Problems problems;
    check_told(problems, reports, size, lost,
               how == End::announce ? "disk full, expected 3 GB" : "ended without a word",
               how == End::announce ? 3 : 7);
    if (how == End::announce) {
      problems.equal(reports[lost].announced, 1, "announce_failure");
      problems.at_most(reports[lost].ended_at, reports[lost == 0 ? 1 : 0].called_at,
                       "the end of the rank that announced");
    }
    return problems;
  });
}

TEST(Watchdog, ManyRanksKnowRankZerosPhaseToo) {
  run_unstalled([] {
    const auto* reports = run_forked(12, [](Group& group, ForkedReport& report) {
      auto watchdog = std::make_unique<Watchdog>(group, note_loss(report, true));
      group.barrier();
      watchdog->set_phase(4, 1042);
      if (group.rank() == 0) {
        std::this_thread::sleep_for(300ms);  // ranks beyond the first eight hear within 50 ms
        die(End::sigkill, std::move(watchdog), report);
      }
      std::this_thread::sleep_for(10s);
    });
    Problems problems;
    check_told(problems, reports, 12, 0, "ended without a word", 7);
    return problems;
  });
}

TEST(Watchdog, OneOfManyFailuresIsFirst) {
  run_unstalled([] {
    const auto* reports = run_forked(4, [](Group& group, ForkedReport& report) {
      Watchdog watchdog(group, note_loss(report, false));
      watchdog.set_phase(1, static_cast<std::int64_t>(group.rank()));
      group.barrier();
      report.announced = watchdog.announce_failure("rank " + std::to_string(group.rank()) + " failed", 4);
    });
    Problems problems;
    int winner = -1, winners = 0;
    for (int r = 0; r < 4; ++r)
      if (reports[r].announced == 1) {
        winner = r;
        ++winners;
      }
    problems.equal(winners, 1, "announcements that were first");
    for (int r = 0; r < 4; ++r) {
      problems.equal(reports[r].callbacks, r == winner ? 0 : 1, "callbacks");
      if (r == winner) continue;
      problems.equal(reports[r].rank, winner, "lost rank");
      problems.equal(reports[r].step, winner, "step");
      problems.equal(std::string(reports[r].cause), "rank " + std::to_string(winner) + " failed", "cause");
      problems.equal(reports[r].reporter, winner == 0 ? 1 : 0, "reporter");
    }
    return problems;
  });
}

TEST(Watchdog, GoodbyeIsNoLoss) {
  for (int first = 0; first < 3; ++first)
    run_unstalled([first] {
      const auto* reports = run_forked(3, [first](Group& group, ForkedReport& report) {
        Watchdog watchdog(group, note_loss(report, true));
        for (int i = 0; i < 100; ++i) watchdog.set_phase(1, i);
        group.barrier();
        if (group.rank() != first) std::this_thread::sleep_for(100ms);
        const double begin = steady_seconds();
        watchdog.goodbye();
        report.longest_call = steady_seconds() - begin;
      });
      Problems problems;
      for (int r = 0; r < 3; ++r) {
        problems.equal(reports[r].callbacks, 0, "callbacks");
        problems.equal(reports[r].wait_status, 0, "end");
        problems.at_most(reports[r].longest_call, 0.9, "nobody answered rank " + std::to_string(r));
      }
      return problems;
    });
}

TEST(Watchdog, WhoHasLeftIsNoReporter) {
  run_unstalled([] {
    const auto* reports = run_forked(4, [](Group& group, ForkedReport& report) {
      auto watchdog = std::make_unique<Watchdog>(group, note_loss(report, true));
      group.barrier();
      if (group.rank() == 1) {
        watchdog->goodbye();
      } else if (group.rank() == 0) {
        std::this_thread::sleep_for(300ms);
        die(End::sigkill, std::move(watchdog), report);
      } else {
        std::this_thread::sleep_for(10s);
      }
    });
    Problems problems;
    problems.equal(reports[1].callbacks, 0, "callbacks after goodbye");
    for (int r : {2, 3}) {
      problems.equal(reports[r].callbacks, 1, "callbacks");
      problems.equal(reports[r].rank, 0, "lost rank");
      problems.equal(reports[r].reporter, 2, "reporter");
    }
    return problems;
  });
}

TEST(Watchdog, AnEchoWaitsForTheCause) {
  run_unstalled([] {
    const auto* reports = run_forked(2, [](Group& group, ForkedReport& report) {
      Watchdog watchdog(group, note_loss(report, false));
      group.barrier();
      if (group.rank() == 1) {
        EXPECT_FALSE(watchdog.wait_for_loss(10ms));
        EXPECT_TRUE(watchdog.wait_for_loss(5s));
        report.announced = watchdog.announce_failure("an echo", 7);
      } else {
        std::this_thread::sleep_for(100ms);
        watchdog.announce_failure("the cause", 5);
      }
    });
    Problems problems;
    problems.equal(reports[1].wait_status, 0, "end");
    problems.equal(reports[1].announced, 0, "announce_failure");
    problems.equal(std::string(reports[1].cause), "the cause", "cause");
    problems.equal(reports[1].exit_status, 5, "exit status");
    return problems;
  });
}

// Rank 0 does not run for a while: the others' calls do not wait for it, and what they did last is known when it is
// back.
TEST(Watchdog, SetPhaseNeverWaits) {
  auto* hub = static_cast<pid_t*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  run_unstalled([hub] {
    const auto* reports = run_forked(3, [hub](Group& group, ForkedReport& report) {
      auto watchdog = std::make_unique<Watchdog>(group, note_loss(report, true));
      if (group.rank() == 0) *hub = getpid();
      group.barrier();
      if (group.rank() == 1) {
        kill(*hub, SIGSTOP);
        for (int i = 0; i < 200'000; ++i) {
          const double begin = steady_seconds();
          watchdog->set_phase(i % 7, i);
          report.longest_call = std::max(report.longest_call, steady_seconds() - begin);
        }
        kill(*hub, SIGCONT);
        watchdog->set_phase(4, 1042);
        std::this_thread::sleep_for(500ms);
        die(End::sigkill, std::move(watchdog), report);
      }
      std::this_thread::sleep_for(10s);
    });
    Problems problems;
    check_told(problems, reports, 3, 1, "ended without a word", 7);
    problems.at_most(reports[1].longest_call, 0.2, "longest set_phase");
    return problems;
  });
}

// Before rank 1 connects, strangers do: silent ones, one that talks nonsense, one with a wrong token.
TEST(Watchdog, StrangersTakeNoPlace) {
  run_unstalled([] {
    const auto* reports = run_forked(2, [](Group& group, ForkedReport& report) {
      std::vector<int> strangers;
      on_broadcast = [&](std::span<const std::byte> invitation) {
        if (group.rank() == 0) return;
        std::uint16_t port = 0;
        std::memcpy(&port, invitation.data(), sizeof port);
        sockaddr_in a{};
        a.sin_family = AF_INET;
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        a.sin_port = htons(port);
        for (int i = 0; i < 5; ++i) {
          strangers.push_back(socket(AF_INET, SOCK_STREAM, 0));
          EXPECT_EQ(connect(strangers.back(), reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
        }
        const std::string nonsense(5000, 'x');
        EXPECT_EQ(send(strangers[1], nonsense.data(), nonsense.size(), 0), 5000);
        watchdog::Link liar(dup(strangers[2]));
        liar.send({.kind = watchdog::Record::Kind::hello, .rank = 1, .text = std::string(32, 'a')});
        std::this_thread::sleep_for(100ms);
      };
      auto watchdog = std::make_unique<Watchdog>(group, note_loss(report, true));
      for (int fd : strangers) close(fd);
      group.barrier();
      watchdog->set_phase(4, 1042);
      if (group.rank() == 1) die(End::sigkill, std::move(watchdog), report);
      std::this_thread::sleep_for(10s);
    });
    Problems problems;
    check_told(problems, reports, 2, 1, "ended without a word", 7);
    return problems;
  });
}

TEST(Watchdog, OneRankNeedsNone) {
  auto self = make_self_group("self");
  Watchdog watchdog(*self, [](const Loss&) { FAIL(); });
  watchdog.set_phase(1, 2);
  EXPECT_FALSE(watchdog.wait_for_loss(1ms));
  EXPECT_TRUE(watchdog.announce_failure("x", 1));
  watchdog.goodbye();
}

}  // namespace
}  // namespace fourmi
