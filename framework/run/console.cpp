#include "framework/run/console.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <numbers>

#include "framework/run/host.h"
#include "kernels/runtime/error.h"

namespace fourmi {

std::string short_count(double value) {
  if (!std::isfinite(value) || value < 0) return "?";
  const char* units[] = {"", "K", "M", "G", "T"};
  std::size_t unit = 0;
  // 999.6 is 1.0K, not 1000.
  while (value >= 999.5 && unit + 1 < std::size(units)) {
    value /= 1000;
    ++unit;
  }
  return value >= 9.95 || unit == 0 ? fmt::format("{:.0f}{}", value, units[unit])
                                    : fmt::format("{:.1f}{}", value, units[unit]);
}

std::string short_time(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e10) return "?";
  const auto s = static_cast<std::int64_t>(std::llround(seconds));
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  if (s < 86400) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}d {:02}:{:02}", s / 86400, s / 3600 % 24, s / 60 % 60);
}

std::string console_line(const ConsoleStep& s) {
  std::string line = fmt::format("step {}/{}  loss {:.2f}", s.step, s.last_step, s.loss);
  if (s.byte_tokens) line += fmt::format(" ({:.2f} bits/byte)", s.loss / std::numbers::ln2);
  if (s.distill) line += fmt::format("  distill {:.3f}", *s.distill);
  line += fmt::format("  grad {:.2g}  {} tok/s", s.grad_norm, short_count(s.tokens_per_second));
  if (s.of_machine > 0) line += fmt::format("  {:.0f}% of this machine", 100 * s.of_machine);
  if (s.load > 0) line += fmt::format("  load {:.1f}x", s.load);
  if (s.dead_experts > 0) line += fmt::format(" ({} idle)", s.dead_experts);
  line += fmt::format("  eta {}", short_time(s.seconds_left));
  return s.spent.empty() ? line : line + "  spent " + s.spent;
}

std::string bar_text(const ConsoleStep& s) {
  return fmt::format("loss {:.2f}  {} tok/s  eta {}", s.loss, short_count(s.tokens_per_second),
                     short_time(s.seconds_left));
}

Log::Log(const std::filesystem::path& run_directory, int rank)
    : path_(run_directory / "logs" / fmt::format("rank-{}.log", rank)) {
  try {
    files::make_folder(path_.parent_path());
    file_ = files::Descriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  } catch (const Error&) {
    // The first line says that there is no log.
  }
}

void Log::write(const char* level, std::string_view text) {
  const double now = now_seconds();
  const auto stamp = utc_time(now);
  const std::string line = fmt::format("{}.{:03}Z {} {}\n", stamp.substr(0, stamp.size() - 1),
                                       static_cast<int>((now - std::floor(now)) * 1000), level, text);
  const std::lock_guard lock(mutex_);
  // A line is one write, so lines of a process that is killed are whole or absent.
  if (file_ && ::write(file_.get(), line.data(), line.size()) == static_cast<ssize_t>(line.size())) return;
  if (!failed_) fmt::print(stderr, "{}: cannot be written, its lines go here\n", path_.string());
  failed_ = true;
  std::fputs(line.c_str(), stderr);
}

}  // namespace fourmi
