#include "framework/telemetry/progress_bar.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace fourmi {

namespace {

int columns(int fd) {
  winsize size{};
  return ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

bool understands_control_sequences() {
  const char* terminal = std::getenv("TERM");  // what the terminal is, not a setting of the run
  return terminal != nullptr && *terminal != 0 && std::string_view(terminal) != "dumb";
}

void put(int fd, const std::string& text) {
  // A terminal that is gone is nobody's error.
  [[maybe_unused]] const ssize_t n = ::write(fd, text.data(), text.size());
}

constexpr std::chrono::milliseconds period{100};
constexpr const char* erase = "\r\033[K";

}  // namespace

std::string bar_line(std::int64_t done, std::int64_t total, std::string_view text, int width) {
  constexpr std::int64_t cells = 20;
  const std::int64_t whole = std::max<std::int64_t>(1, total), at = std::clamp<std::int64_t>(done, 0, whole);
  // Whole numbers: the bar is full, and 100% said, only at the end.
  const auto share = [&](std::int64_t of) { return static_cast<std::int64_t>(static_cast<__int128>(at) * of / whole); };
  const auto filled = static_cast<std::size_t>(share(cells));
  std::string bar(filled, '=');
  if (filled < cells) bar += '>';
  bar.resize(cells, ' ');
  std::string line = fmt::format("[{}] {}/{} {}%", bar, done, total, share(100));
  if (!text.empty()) line += fmt::format("  {}", text);
  // A full last column would make some terminals wrap.
  line.resize(std::min(line.size(), static_cast<std::size_t>(std::max(width - 1, 0))));
  return line;
}

ProgressBar::ProgressBar(int fd) : fd_(fd), terminal_(::isatty(fd) == 1 && understands_control_sequences()) {}

void ProgressBar::show(std::int64_t done, std::int64_t total, std::string_view text) {
  if (!terminal_) return;
  done_ = done;
  total_ = total;
  text_ = text;
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && now - last_ < period && done < total) return;
  last_ = now;
  draw();
}

void ProgressBar::clear() {
  if (!drawn_) return;
  put(fd_, erase);
  drawn_ = false;
}

void ProgressBar::redraw() {
  if (terminal_ && total_ > 0) draw();
}

void ProgressBar::draw() {
  put(fd_, erase + bar_line(done_, total_, text_, columns(fd_)));
  drawn_ = true;
}

}  // namespace fourmi
