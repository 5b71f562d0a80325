#include "tests/end_to_end/run.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <system_error>
#include <thread>

namespace fourmi::testing {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

namespace {

constexpr auto pause_between_looks = std::chrono::milliseconds(3);

std::string next_mark() {
  static int number = 0;
  return "END_TO_END_JOB=" + std::to_string(::getpid()) + "-" + std::to_string(++number);
}

bool is_zombie(const std::string& stat) {
  const auto name_end = stat.rfind(") ");  // a name may hold anything
  return name_end != std::string::npos && name_end + 2 < stat.size() && stat[name_end + 2] == 'Z';
}

/// Only for the child between fork and exec, so no allocation: descriptors of the two outputs.
int open_output(const std::string& path) {
  return ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

}  // namespace

std::vector<std::string> Result::lines(const std::string& beginning) const {
  std::vector<std::string> found;
  std::istringstream text(errors);
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with(beginning)) found.push_back(line);
  }
  return found;
}

std::string to_string(const Result& r) {
  return "exit status " + std::to_string(r.status) + (r.timed_out ? " (after the time limit)" : "") + " in " +
         std::to_string(r.seconds) + " s\n--- standard output\n" + r.output + "--- standard error\n" + r.errors;
}

Process::Process(Words words, const fs::path& directory) : mark_(next_mark()), begin_(Clock::now()) {
  std::vector<char*> arguments, environment;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  for (char** variable = environ; *variable; ++variable) environment.push_back(*variable);
  environment.push_back(mark_.data());
  environment.push_back(nullptr);
  const std::string out = folder_.path() / "out", err = folder_.path() / "err";
  pid_ = ::fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ != 0) return;
  ::dup2(::open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
  ::dup2(open_output(out), STDOUT_FILENO);
  ::dup2(open_output(err), STDERR_FILENO);
  if (directory.empty() || ::chdir(directory.c_str()) == 0)
    ::execvpe(arguments[0], arguments.data(), environment.data());
  ::_exit(127);
}

Process::~Process() {
  kill_all();
}

void Process::signal(int signal) const {
  if (!ended_) ::kill(pid_, signal);
}

void Process::reap(int flags) {
  if (!ended_ && ::waitpid(pid_, &wait_status_, flags) == pid_) ended_ = true;
}

bool Process::runs() {
  reap(WNOHANG);
  return !ended_;
}

std::vector<pid_t> Process::processes(const std::string& name) const {
  std::vector<pid_t> found;
  std::error_code gone;
  for (const auto& entry : fs::directory_iterator("/proc", gone)) {
    const std::string number = entry.path().filename();
    if (!std::isdigit(static_cast<unsigned char>(number[0]))) continue;
    const std::string environment = '\0' + text_of(entry.path() / "environ") + '\0';
    if (environment.find('\0' + mark_ + '\0') == std::string::npos || is_zombie(text_of(entry.path() / "stat")))
      continue;
    if (!name.empty() && fs::read_symlink(entry.path() / "exe", gone).filename() != name) continue;
    found.push_back(static_cast<pid_t>(std::stol(number)));
  }
  return found;
}

void Process::kill_all() {
  wait_until(
      [&] {
        if (runs()) ::kill(pid_, SIGKILL);  // before its exec it has no mark yet
        const std::vector<pid_t> left = processes();
        for (const pid_t process : left) ::kill(process, SIGKILL);
        return left.empty();
      },
      Seconds(10));
  reap(0);
}

Result Process::wait(Seconds limit) {
  Result result;
  if (!wait_until([&] { return !runs(); }, limit)) {
    result.timed_out = true;
    kill_all();
  }
  result.seconds = Seconds(Clock::now() - begin_).count();
  result.status = WIFEXITED(wait_status_) ? WEXITSTATUS(wait_status_) : -WTERMSIG(wait_status_);
  result.output = text_of(folder_.path() / "out");
  result.errors = text_of(folder_.path() / "err");
  return result;
}

Result run(Words words, const fs::path& directory, Seconds limit) {
  return Process(std::move(words), directory).wait(limit);
}

bool wait_until(const std::function<bool()>& holds, Seconds limit) {
  const auto until = Clock::now() + limit;
  while (!holds()) {
    if (Clock::now() > until) return false;
    std::this_thread::sleep_for(pause_between_looks);
  }
  return true;
}

Words on_ranks(int ranks, Words words) {
  if (ranks > 0) {
    const Words launcher{FOURMI_SOURCE_DIR "/launch/mpirun", "-n", std::to_string(ranks)};
    words.insert(words.begin(), launcher.begin(), launcher.end());
  }
  return words;
}

Words fourmi(Words words, int ranks) {
  words.insert(words.begin(), FOURMI_PROGRAM);
  return on_ranks(ranks, std::move(words));
}

}  // namespace fourmi::testing
