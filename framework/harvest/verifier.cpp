#include "framework/harvest/verifier.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "framework/run/files.h"
#include "kernels/runtime/error.h"

extern char** environ;

namespace fourmi::harvest {
namespace {

using Clock = std::chrono::steady_clock;

const char* const place = "distill.harvest.verify.command";

Error lacks(const char* what) {
  return Error(ExitStatus::environment, place,
               fmt::format("{} failed: {}, a process was expected", what, std::strerror(errno)));
}

/// Memory with the input in it: unlike a pipe it needs nobody who writes while the program runs.
files::Descriptor memory_with(const std::string& text) {
  files::Descriptor memory(::memfd_create("answer", MFD_CLOEXEC));
  if (!memory) throw lacks("memfd_create");
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(memory.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw lacks("writing the answer");
    done += static_cast<std::size_t>(n);
  }
  if (::lseek(memory.get(), 0, SEEK_SET) != 0) throw lacks("lseek");
  return memory;
}

pid_t start(const std::vector<std::string>& command, int input) {
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_adddup2(&files, input, 0);
  ::posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addclosefrom_np(&files, 3);  // connections with the key's owner among them
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
  sigset_t none;
  ::sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  pid_t child = -1;
  const int error = ::posix_spawnp(&child, words[0], &files, &attributes, words.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&files);
  if (error != 0)
    throw Error(
        ExitStatus::input, place,
        fmt::format("{} cannot be started ({}), a program was expected", command.front(), std::strerror(error)));
  return child;
}

/// Whether it ended within the limit; not reaped yet, so its number and its group's are still its own.
bool ends_within(pid_t child, std::chrono::milliseconds limit) {
  const files::Descriptor process(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  if (!process) return false;
  const auto end = Clock::now() + limit;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
    pollfd waiting{process.get(), POLLIN, 0};
    const int n = ::poll(&waiting, 1, static_cast<int>(std::clamp<std::int64_t>(left, 0, 1 << 30)));
    if (n > 0) return true;
    if (n == 0 && left <= 0) return false;
  }
}

}  // namespace

Verdict verify(const std::vector<std::string>& command, const std::string& input, std::chrono::milliseconds limit) {
  const files::Descriptor memory = memory_with(input);
  const pid_t child = start(command, memory.get());
  const bool in_time = ends_within(child, limit);
  ::kill(-child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!in_time) return {false, "no verdict in time"};
  if (WIFSIGNALED(status)) return {false, fmt::format("signal {}", WTERMSIG(status))};
  const int code = WEXITSTATUS(status);
  return {code == 0, fmt::format("exit status {}", code)};
}

}  // namespace fourmi::harvest
