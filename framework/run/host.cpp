#include "framework/run/host.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <ctime>
#include <fstream>
#include <optional>
#include <sstream>

namespace fourmi {

namespace {

struct ProcessState {
  char state = '?';
  std::uint64_t start_ticks = 0;
};

/// The process' name stands in brackets and may itself hold brackets and spaces, so fields count from the last bracket.
std::optional<ProcessState> read_process(std::int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  if (!file || !std::getline(file, text, '\0')) return std::nullopt;
  const auto bracket = text.rfind(')');
  if (bracket == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(bracket + 1));
  ProcessState result;
  fields >> result.state;  // field 3
  std::string skipped;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  fields >> result.start_ticks;
  if (!fields) return std::nullopt;
  return result;
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.data();
}

ProcessIdentity this_process() {
  ProcessIdentity self;
  self.host = host_name();
  std::ifstream boot("/proc/sys/kernel/random/boot_id");
  std::getline(boot, self.boot);
  std::array<char, 128> link{};
  const ssize_t n = ::readlink("/proc/self/ns/pid", link.data(), link.size() - 1);
  if (n > 0) self.pid_namespace = link.data();
  self.pid = ::getpid();
  if (const auto state = read_process(self.pid)) self.start_ticks = state->start_ticks;
  return self;
}

bool is_alive(const ProcessIdentity& process) {
  if (const auto state = read_process(process.pid)) {
    return state->start_ticks == process.start_ticks && state->state != 'Z' && state->state != 'X';
  }
  return ::kill(static_cast<pid_t>(process.pid), 0) == 0 || errno == EPERM;
}

std::string utc_time(double seconds) {
  const auto whole = static_cast<std::time_t>(std::floor(seconds));
  std::tm parts{};
  ::gmtime_r(&whole, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                     parts.tm_hour, parts.tm_min, parts.tm_sec);
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace fourmi
