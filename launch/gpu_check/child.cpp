#include "launch/gpu_check/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "kernels/runtime/error.h"

namespace fourmi::gpu_check {

namespace {

constexpr double time_to_die = 8;         // seconds from SIGKILL to an end: a GPU's memory is given back first
constexpr off_t flood = off_t{64} << 20;  // bytes
constexpr std::size_t kept = std::size_t{4} << 20;  // bytes of the beginning, and as many of the end
constexpr int cannot_start = 127;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

off_t size_of_file(int file) {
  struct stat status {};
  return ::fstat(file, &status) == 0 ? status.st_size : 0;
}

std::string read_part(int file, off_t at, std::size_t bytes) {
  std::string text(bytes, '\0');
  const ssize_t n = ::pread(file, text.data(), bytes, at);
  text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return text;
}

std::string read_kept(int file) {
  const auto size = static_cast<std::size_t>(size_of_file(file));
  if (size <= 2 * kept) return read_part(file, 0, size);
  return read_part(file, 0, kept) + "\n...\n" + read_part(file, static_cast<off_t>(size - kept), kept);
}

/// A file without a name: nothing is left behind, however this ends.
int nameless_file() {
  const int file = ::memfd_create("fourmi gpu-check", MFD_CLOEXEC);
  if (file < 0)
    throw Error(ExitStatus::environment, "gpu-check",
                fmt::format("memfd_create: {}, memory for a program's output was expected", std::strerror(errno)));
  return file;
}

}  // namespace

Child::Child(const std::vector<std::string>& words) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  output_ = nameless_file();
  errors_ = nameless_file();
  began_ = now();
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0)
    throw Error(ExitStatus::environment, "gpu-check",
                fmt::format("fork: {}, a process was expected", std::strerror(errno)));
  if (pid_ == 0) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(cannot_start);
    const int nothing = ::open("/dev/null", O_RDONLY);
    ::dup2(nothing, STDIN_FILENO);
    ::dup2(output_, STDOUT_FILENO);
    ::dup2(errors_, STDERR_FILENO);
    ::execvp(arguments[0], arguments.data());
    ::_exit(cannot_start);
  }
  ::setpgid(pid_, pid_);  // whoever comes first
}

Child::~Child() {
  if (!ended_) {
    kill_group();
    for (const double end = now() + time_to_die; !reap() && now() < end;)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ::close(output_);
  ::close(errors_);
}

bool Child::reap() {
  if (!ended_ && ::waitpid(pid_, &wait_status_, WNOHANG) == pid_) {
    ended_ = true;
    kill_group();  // what it left running
  }
  return ended_;
}

void Child::kill_group() {
  ::kill(-pid_, SIGKILL);
}

ChildEnd Child::wait(const ChildLimits& limits) {
  using How = ChildEnd::How;
  const double silence = limits.silence > 0 ? limits.silence : limits.seconds;
  double heard = now();
  off_t said = 0;
  How killed = How::exited;
  while (!reap()) {
    const double time = now();
    const off_t size = size_of_file(output_);
    if (size != said) said = size, heard = time;
    if (time - began_ > limits.seconds) killed = limits.silence > 0 ? How::late : How::hung;
    if (time - heard > silence) killed = How::hung;
    if (size + size_of_file(errors_) > flood) killed = How::flooded;
    if (killed != How::exited) {
      kill_group();
      while (!reap() && now() - time < time_to_die) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(time - began_ < 0.5 ? 2 : 20));
  }
  ChildEnd end{.how = killed,
               .status = 0,
               .seconds = now() - began_,
               .output = read_kept(output_),
               .errors = read_kept(errors_)};
  if (!ended_) {
    end.how = How::stuck;
    ended_ = true;  // nothing more can be done
  } else if (killed == How::exited) {
    const bool by_signal = WIFSIGNALED(wait_status_);
    end.how = by_signal ? How::signalled : How::exited;
    end.status = by_signal ? WTERMSIG(wait_status_) : WEXITSTATUS(wait_status_);
    if (end.how == How::exited && end.status == cannot_start && end.output.empty() && end.errors.empty())
      end.how = How::absent;
  }
  return end;
}

std::string describe(const ChildEnd& end) {
  using How = ChildEnd::How;
  switch (end.how) {
    case How::exited:
      return fmt::format("ended with exit status {}", end.status);
    case How::signalled:
      return fmt::format("died by signal {} ({})", end.status, ::strsignal(end.status));
    case How::hung:
      return fmt::format("hung and was killed after {:.0f} s", end.seconds);
    case How::late:
      return fmt::format("was not done after {:.0f} s and was killed", end.seconds);
    case How::flooded:
      return "printed without end and was killed";
    case How::stuck:
      return fmt::format("hung, and SIGKILL did not end it after {:.0f} s", end.seconds);
    case How::absent:
      return "could not be started";
  }
  return {};
}

std::string last_words(const ChildEnd& end, std::size_t bytes) {
  std::string text = end.errors + (end.errors.empty() || end.errors.ends_with('\n') ? "" : "\n") + end.output;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (text.size() > bytes) text.erase(0, text.size() - bytes);
  return text;
}

}  // namespace fourmi::gpu_check
