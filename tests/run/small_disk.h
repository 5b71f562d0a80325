// A disk that is really full: a tmpfs in a mount namespace of a child process, so nothing is left behind.
#pragma once

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

namespace fourmi::testing {

/// A mount namespace of our own; where that takes privileges, as root of a user namespace of our own.
inline bool own_mount_namespace() {
  if (unshare(CLONE_NEWNS) == 0) return true;
  const auto user = getuid(), group = getgid();
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  std::ofstream("/proc/self/uid_map") << "0 " << user << " 1";
  std::ofstream("/proc/self/setgroups") << "deny";
  std::ofstream("/proc/self/gid_map") << "0 " << group << " 1";
  return getuid() == 0;
}

enum class SmallDisk { ok, failed, not_permitted };
constexpr const char* why_not_permitted = "this process may not mount a tmpfs (root or user namespaces)";

/// Runs `body` in a child process for which `place` is a disk of this size ("3m"); its failed expectations are printed.
inline SmallDisk on_small_disk(const std::filesystem::path& place, const char* size,
                               const std::function<void()>& body) {
  constexpr int cannot_mount = 77;
  const std::string options = std::string("size=") + size;
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) return SmallDisk::failed;
  if (child == 0) {
    if (!own_mount_namespace() || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", place.c_str(), "tmpfs", 0, options.c_str()) != 0)
      _exit(cannot_mount);
    try {
      body();
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
    std::fflush(nullptr);
    _exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) return SmallDisk::failed;
  if (WEXITSTATUS(status) == cannot_mount) return SmallDisk::not_permitted;
  return WEXITSTATUS(status) == 0 ? SmallDisk::ok : SmallDisk::failed;
}

/// Fills the disk until only so many bytes are free; the file `filler` on it is to be removed.
inline void fill_disk_to(const std::filesystem::path& disk, std::uintmax_t free_bytes) {
  std::ofstream filler(disk / "filler", std::ios::binary);
  const std::string page(4096, 'x');
  while (std::filesystem::space(disk).available > free_bytes) filler << page << std::flush;
}

}  // namespace fourmi::testing
