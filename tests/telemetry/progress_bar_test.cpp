#include "framework/telemetry/progress_bar.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <thread>

namespace fourmi {
namespace {

TEST(ProgressBar, ALineOfAsciiThatFits) {
  EXPECT_EQ(bar_line(40, 160, "loss 2.31", 120), "[=====>              ] 40/160 25%  loss 2.31");
  EXPECT_EQ(bar_line(0, 160, "", 120), "[>                   ] 0/160 0%");
  EXPECT_EQ(bar_line(160, 160, "", 120), "[====================] 160/160 100%");
  EXPECT_EQ(bar_line(159, 160, "", 120), "[===================>] 159/160 99%") << "full only at the end";
  EXPECT_EQ(bar_line(40, 160, "loss 2.31", 30).size(), 29u);
  EXPECT_EQ(bar_line(40, 160, "loss 2.31", 0).size(), 0u);
  EXPECT_EQ(bar_line(900000000000, 1000000000000, "", 120).substr(0, 22), "[==================> ]");
}

/// What `use` writes to a terminal (or a pipe) of 60 columns.
template <class Use>
std::string written(bool terminal, const Use& use) {
  int reader = -1, writer = -1;
  if (terminal) {
    winsize size{.ws_row = 24, .ws_col = 60, .ws_xpixel = 0, .ws_ypixel = 0};
    EXPECT_EQ(openpty(&reader, &writer, nullptr, nullptr, &size), 0);
  } else {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    reader = ends[0];
    writer = ends[1];
  }
  use(writer);
  std::string text;
  char buffer[4096];
  fcntl(reader, F_SETFL, O_NONBLOCK);
  for (ssize_t n = 0; (n = read(reader, buffer, sizeof(buffer))) > 0;) text.append(buffer, static_cast<std::size_t>(n));
  close(reader);
  close(writer);
  return text;
}

class OnATerminal : public ::testing::Test {
 protected:
  void SetUp() override { setenv("TERM", "xterm", 1); }
};

TEST_F(OnATerminal, TheBarIsOneLineRedrawnInPlaceAndGoneAtTheEnd) {
  const std::string text = written(true, [](int fd) {
    ProgressBar bar(fd);
    bar.show(1, 4, "one");
    std::this_thread::sleep_for(std::chrono::milliseconds(110));
    bar.show(2, 4, "two");
    bar.clear();
    bar.redraw();
    bar.end();
    bar.redraw();
  });
  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_NE(text.find("\r\033[K[=====>              ] 1/4 25%  one"), std::string::npos) << text;
  EXPECT_NE(text.find("\r\033[K[==========>         ] 2/4 50%  two"), std::string::npos) << text;
  EXPECT_EQ(text.substr(text.size() - 4), "\r\033[K");
}

TEST_F(OnATerminal, FastStepsAreNotAllDrawn) {
  const std::string text = written(true, [](int fd) {
    ProgressBar bar(fd);
    for (int i = 1; i <= 1000; ++i) bar.show(i, 1000, "x");
  });
  EXPECT_LT(text.size(), 2000u);
  EXPECT_NE(text.find("1000/1000 100%"), std::string::npos) << "the last is";
}

TEST_F(OnATerminal, NeverWiderThanTheTerminal) {
  const std::string text = written(true, [](int fd) {
    ProgressBar bar(fd);
    bar.show(1, 4, std::string(200, 'x'));
  });
  EXPECT_EQ(text.find_first_of('x') != std::string::npos, true);
  // \r ESC [ K, the bar, \r ESC [ K
  EXPECT_EQ(text.size(), 4u + 59u + 4u);
}

TEST_F(OnATerminal, NothingGoesToAPipeOrToADumbTerminal) {
  const auto use = [](int fd) {
    ProgressBar bar(fd);
    EXPECT_FALSE(bar.on_terminal());
    bar.show(1, 4, "one");
    bar.redraw();
    bar.clear();
  };
  EXPECT_EQ(written(false, use), "");
  setenv("TERM", "dumb", 1);
  EXPECT_EQ(written(true, use), "");
}

}  // namespace
}  // namespace fourmi
