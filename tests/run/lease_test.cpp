#include "framework/run/lease.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <chrono>
#include <thread>

#include "kernels/runtime/error.h"
#include "tests/run/injected_io.h"
#include "tests/run/temp_folder.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

LeaseOptions impatient() {
  LeaseOptions options;
  options.dying_patience = {};
  return options;
}

/// The error of an acquisition that is refused; empty if it was granted.
std::string refusal(const fs::path& directory, LeaseOptions options = impatient()) {
  try {
    Lease::acquire(directory, std::move(options));
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), ExitStatus::environment);
    return error.what();
  }
}

LeaseOptions elsewhere() {
  LeaseOptions options;
  options.process.host = "elsewhere";
  options.process.boot = "another boot";
  options.process.pid = 4711;
  return options;
}

fs::path only_file(const fs::path& folder) {
  fs::path found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    EXPECT_TRUE(found.empty()) << entry.path() << " beside " << found;
    found = entry.path();
  }
  return found;
}

/// As if the owner had last touched its file so long ago.
void age(const fs::path& file, int seconds) {
  const timespec then{::time(nullptr) - seconds, 0};
  const timespec times[] = {then, then};
  ASSERT_EQ(::utimensat(AT_FDCWD, file.c_str(), times, 0), 0);
}

/// A child that acquires, says so through a pipe, and waits to be killed.
pid_t owner_process(const fs::path& directory) {
  int pipe_ends[2];
  EXPECT_EQ(::pipe(pipe_ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      const auto lease = Lease::acquire(directory);
      const char ready = '1';
      if (::write(pipe_ends[1], &ready, 1) == 1) ::pause();
    } catch (const Error&) {
    }
    ::_exit(9);
  }
  ::close(pipe_ends[1]);
  char ready = 0;
  EXPECT_EQ(::read(pipe_ends[0], &ready, 1), 1);
  ::close(pipe_ends[0]);
  return child;
}

TEST(Lease, SecondLaunchIsRefusedAtOnceAndNamesTheOwner) {
  const TempFolder folder;
  const pid_t owner = owner_process(folder.path());
  const auto start = Clock::now();
  const std::string text = refusal(folder.path(), {});
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(3));
  EXPECT_NE(text.find(fmt::format("process {} on host {}", owner, host_name())), std::string::npos) << text;
  EXPECT_NE(text.find("since 20"), std::string::npos) << text;

  // A stopped process still owns: it would go on writing when it is continued.
  ::kill(owner, SIGSTOP);
  EXPECT_NE(refusal(folder.path()), "");
  ::kill(owner, SIGKILL);
  // Not yet waited for, perhaps not yet gone: dead.
  const auto lease = Lease::acquire(folder.path());
  EXPECT_EQ(lease->epoch(), 2);
  ::waitpid(owner, nullptr, 0);
}

TEST(Lease, KilledOwnerIsReplacedAtOnce) {
  const TempFolder folder;
  for (int round = 1; round <= 3; ++round) {
    const pid_t owner = owner_process(folder.path());
    ::kill(owner, SIGKILL);
    ::waitpid(owner, nullptr, 0);
  }
  const auto start = Clock::now();
  const auto lease = Lease::acquire(folder.path());
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(1));
  EXPECT_EQ(lease->epoch(), 4);
  EXPECT_EQ(only_file(folder.path() / "lease").filename(), "000004.json");
}

TEST(Lease, OneOfManyAtOnceGetsIt) {
  const TempFolder folder;
  constexpr int launches = 8;
  int go[2], done[2];
  ASSERT_EQ(::pipe(go), 0);
  ASSERT_EQ(::pipe(done), 0);
  std::vector<pid_t> children;
  for (int i = 0; i < launches; ++i) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    char c;
    ::close(go[1]);
    if (::read(go[0], &c, 1) != 0) ::_exit(9);  // the pipe's end: all start
    char result = 'w';
    std::unique_ptr<Lease> lease;
    try {
      lease = Lease::acquire(folder.path());
    } catch (const Error&) {
      result = 'l';
    }
    if (::write(done[1], &result, 1) != 1) ::_exit(9);
    ::pause();
  }
  ::close(go[0]);
  ::close(go[1]);
  int winners = 0;
  for (int i = 0; i < launches; ++i) {
    char result = 0;
    ASSERT_EQ(::read(done[0], &result, 1), 1);
    winners += result == 'w';
  }
  EXPECT_EQ(winners, 1);
  for (const pid_t child : children) ::kill(child, SIGKILL);
  for (const pid_t child : children) ::waitpid(child, nullptr, 0);
  EXPECT_EQ(refusal(folder.path()), "");
}

TEST(Lease, ReusedProcessNumberIsNotTheOwner) {
  const TempFolder folder;
  LeaseOptions options;
  options.process.start_ticks += 1;  // this process' number, but another process
  const auto former = Lease::acquire(folder.path(), options);
  EXPECT_EQ(refusal(folder.path()), "");
}

TEST(Lease, ReleasedByTheOwnerAndByItsEnd) {
  const TempFolder folder;
  auto lease = Lease::acquire(folder.path());
  EXPECT_NE(refusal(folder.path()), "") << "the same process, twice";
  lease->check();
  lease->release();
  lease->release();
  EXPECT_EQ(only_file(folder.path() / "lease").filename(), "000001.released.json");
  lease = Lease::acquire(folder.path());
  EXPECT_EQ(lease->epoch(), 2);
  lease.reset();
  EXPECT_EQ(only_file(folder.path() / "lease").filename(), "000002.released.json");
}

TEST(Lease, OwnerElsewhereIsDeadAfterAMinuteWithoutASign) {
  const TempFolder folder;
  const auto far = Lease::acquire(folder.path(), elsewhere());
  const fs::path file = only_file(folder.path() / "lease");
  age(file, 50);
  const std::string text = refusal(folder.path());
  EXPECT_NE(text.find("process 4711 on host elsewhere"), std::string::npos) << text;
  EXPECT_NE(text.find("last sign of life 5"), std::string::npos) << text;
  age(file, 61);
  const auto lease = Lease::acquire(folder.path());
  EXPECT_EQ(lease->epoch(), 2);
}

TEST(Lease, HeartbeatIsASignOfLife) {
  const TempFolder folder;
  LeaseOptions options = elsewhere();
  options.heartbeat = std::chrono::milliseconds(20);
  const auto far = Lease::acquire(folder.path(), options);
  age(only_file(folder.path() / "lease"), 1000);
  ::usleep(200'000);
  EXPECT_NE(refusal(folder.path()), "");
}

TEST(Lease, OwnerThatWakesTooLateKnowsBeforeItWrites) {
  LeaseOptions short_beat = elsewhere();
  short_beat.heartbeat = std::chrono::milliseconds(30);
  const TempFolder other;
  const auto awake = Lease::acquire(other.path(), short_beat);
  // The number of another launch appears: what a takeover leaves.
  put_text(other.path() / "lease" / "000002.json", R"({"host":"new","pid":12})");
  ::usleep(300'000);
  EXPECT_TRUE(awake->lost());
  try {
    awake->check();
    FAIL() << "a lost lease holds";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("taken over by process 12 on host new"), std::string::npos)
        << error.what();
  }
  // Its release does not touch the new owner's file.
  awake->release();
  EXPECT_TRUE(fs::exists(other.path() / "lease" / "000002.json"));
}

TEST(Lease, CheckLooksAgainWhenTheHeartbeatIsLate) {
  const TempFolder folder;
  LeaseOptions options = elsewhere();
  options.heartbeat = std::chrono::milliseconds(100);
  const auto lease = Lease::acquire(folder.path(), options);
  const pid_t child = ::fork();  // a child has no heartbeat thread: a process whose threads stand still
  if (child == 0) {
    put_text(folder.path() / "lease" / "000007.json", "{}");
    ::usleep(250'000);
    try {
      lease->check();
    } catch (const Error&) {
      ::_exit(0);
    }
    ::_exit(1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(Lease, DamagedFileIsJudgedByItsAge) {
  for (const char* content : {"", "{\"host\":", "[1]", "{\"pid\":\"x\"}", "\0\0"}) {
    const TempFolder folder;
    const fs::path file = folder.path() / "lease" / "000003.json";
    put_text(file, content);
    EXPECT_NE(refusal(folder.path()), "") << content;
    age(file, 61);
    EXPECT_EQ(Lease::acquire(folder.path())->epoch(), 4) << content;
  }
}

TEST(Lease, AClaimThatIsKilledAnywhereBlocksNobody) {
  int kills = 0;
  for (int n = 1;; ++n) {
    const TempFolder folder;
    { const auto former = Lease::acquire(folder.path()); }
    const int status = injected::in_child([&] {
      injected::arm(injected::Fault::kill, n);
      Lease::acquire(folder.path());
    });
    injected::disarm();
    EXPECT_EQ(refusal(folder.path()), "") << "killed at call " << n;
    if (status == 0) break;
    ASSERT_EQ(status, -SIGKILL);
    ++kills;
  }
  EXPECT_GE(kills, 5);
}

TEST(Lease, ForeignFilesInTheFolderDoNotMatter) {
  const TempFolder folder;
  put_text(folder.path() / "lease" / "notes.txt", "x");
  put_text(folder.path() / "lease" / "99999999999999999999999.json", "x");
  put_text(folder.path() / "lease" / "5.json.bak", "x");
  EXPECT_EQ(Lease::acquire(folder.path())->epoch(), 1);
  EXPECT_TRUE(fs::exists(folder.path() / "lease" / "notes.txt"));
}

}  // namespace
}  // namespace fourmi
