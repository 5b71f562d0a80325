#include "tests/run/injected_io.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>

#include <atomic>
#include <cerrno>

#include "framework/run/files.h"
#include "kernels/runtime/error.h"
#include "tests/run/temp_folder.h"

namespace fourmi::injected {

namespace {

std::atomic<Fault> armed{Fault::none};
std::atomic<int> nth{0}, counter{0};
std::atomic<bool> full{false};

/// Is the fault to happen in this call?
bool due() {
  return armed != Fault::none && counter.fetch_add(1) + 1 == nth;
}

void die() {
  ::syscall(SYS_kill, ::getpid(), SIGKILL);
}

}  // namespace

void arm(Fault fault, int nth_call) {
  counter = 0;
  full = false;
  nth = nth_call;
  armed = fault;
}

void disarm() {
  armed = Fault::none;
  full = false;
}

int calls() {
  return counter;
}

}  // namespace fourmi::injected

using fourmi::injected::armed;
using fourmi::injected::due;
using fourmi::injected::Fault;
using fourmi::injected::full;

extern "C" {

ssize_t write(int fd, const void* data, size_t size) {
  const bool now = due();
  if (now && armed == Fault::kill) {
    ::syscall(SYS_write, fd, data, size / 2);
    fourmi::injected::die();
  }
  if (now && armed == Fault::hang) {
    while (armed == Fault::hang) ::usleep(1000);
  }
  if (armed == Fault::disk_full && (now || full)) {
    if (!full.exchange(true) && size > 1) return ::syscall(SYS_write, fd, data, size / 2);
    errno = ENOSPC;
    return -1;
  }
  return ::syscall(SYS_write, fd, data, size);
}

int fsync(int fd) {
  if (due() && armed == Fault::kill) fourmi::injected::die();
  return static_cast<int>(::syscall(SYS_fsync, fd));
}

int rename(const char* from, const char* to) noexcept {
  if (due() && armed == Fault::kill) fourmi::injected::die();
  return static_cast<int>(::syscall(SYS_rename, from, to));
}

int link(const char* from, const char* to) noexcept {
  if (due() && armed == Fault::kill) fourmi::injected::die();
  return static_cast<int>(::syscall(SYS_link, from, to));
}

int unlink(const char* path) noexcept {
  if (due() && armed == Fault::kill) fourmi::injected::die();
  return static_cast<int>(::syscall(SYS_unlink, path));
}

}  // extern "C"

namespace fourmi {
namespace {

TEST(Files, ReplacedFileIsOldOrNewWhereverAKillFalls) {
  const TempFolder folder;
  const auto path = folder.path() / "file";
  int kills = 0;
  for (int n = 1;; ++n) {
    put_text(path, "old");
    const int status = injected::in_child([&] {
      injected::arm(injected::Fault::kill, n);
      files::replace(path, "new content");
    });
    const std::string content = text_of(path);
    if (status == 0) {
      EXPECT_EQ(content, "new content");
      break;
    }
    ASSERT_EQ(status, -SIGKILL);
    EXPECT_TRUE(content == "old" || content == "new content") << content;
    ++kills;
  }
  EXPECT_EQ(kills, 4);  // write, fsync, rename, fsync of the folder
  files::remove_leftovers(folder.path());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(Files, FullDiskKeepsTheOldContentAndSaysSo) {
  const TempFolder folder;
  const auto path = folder.path() / "file";
  files::replace(path, "old");
  injected::arm(injected::Fault::disk_full, 1);
  try {
    files::replace(path, "new content");
    FAIL() << "no error";
  } catch (const Error& error) {
    injected::disarm();
    EXPECT_EQ(error.status(), ExitStatus::environment);
    EXPECT_NE(error.cause().find("No space left"), std::string::npos);
  }
  EXPECT_EQ(text_of(path), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1) << "a leftover";
}

TEST(Files, ReadSaysAbsentAndRefusesFolders) {
  const TempFolder folder;
  EXPECT_FALSE(files::read(folder.path() / "absent"));
  EXPECT_THROW(files::read(folder.path()), Error);
  files::replace(folder.path() / "empty", "");
  EXPECT_EQ(files::read(folder.path() / "empty"), "");
  EXPECT_THROW(files::make_folder(folder.path() / "empty"), Error);
  EXPECT_THROW(files::make_folder(folder.path() / "empty" / "below"), Error);
}

}  // namespace
}  // namespace fourmi
