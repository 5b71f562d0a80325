// One line on a terminal that is redrawn in place: how far the run is. Nothing is ever written where there is no
// terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace fourmi {

/// "[=======>            ]  40/160 25%  <text>", at most `width` columns; ASCII alone.
std::string bar_line(std::int64_t done, std::int64_t total, std::string_view text, int width);

class ProgressBar {
 public:
  /// Draws on `fd` if that is a terminal that understands control sequences (TERM is not "dumb").
  explicit ProgressBar(int fd = 2);
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  bool on_terminal() const { return terminal_; }
  /// Redraws, at most ten times a second.
  void show(std::int64_t done, std::int64_t total, std::string_view text);
  /// Before other lines are printed: the bar's place is empty and at the line's start.
  void clear();
  /// After them: as it was.
  void redraw();
  /// For good, until the next show().
  void end() {
    clear();
    total_ = 0;
  }

 private:
  void draw();

  int fd_;
  bool terminal_, drawn_ = false;
  std::int64_t done_ = 0, total_ = 0;
  std::string text_;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace fourmi
