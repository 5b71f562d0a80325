#include "tests/parallel/forked_ranks.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "kernels/runtime/error.h"
#include "parallel/moving_group.h"

namespace fourmi {
namespace {

// Small messages only: a send that fits the socket's buffer never waits, so sends go first, then receives.
class SocketGroup final : public MovingGroup {
 public:
  SocketGroup(int rank, std::vector<int> sockets)
      : MovingGroup("forked", rank, static_cast<int>(sockets.size())), sockets_(std::move(sockets)) {}
  std::unique_ptr<Group> subgroup(std::string, std::span<const int>) override { return nullptr; }
  void cancel(const std::string&) override {}
  bool cancelled() const override { return false; }
  void broadcast(std::span<std::byte> data, int root) override {
    MovingGroup::broadcast(data, root);
    if (on_broadcast) on_broadcast(data);
  }

 protected:
  Request start_moves(std::span<const Move> moves) override {
    for (const Move& m : moves)
      if (m.kind == Move::Kind::send)
        all_of(m, [](int fd, std::byte* p, std::size_t n) { return send(fd, p, n, MSG_NOSIGNAL); });
    for (const Move& m : moves)
      if (m.kind == Move::Kind::receive)
        all_of(m, [](int fd, std::byte* p, std::size_t n) { return recv(fd, p, n, 0); });
    return Request();
  }

 private:
  void all_of(const Move& m, ssize_t (*step)(int, std::byte*, std::size_t)) {
    for (std::size_t done = 0; done < m.size;) {
      const ssize_t n = step(sockets_[static_cast<std::size_t>(m.peer)], m.data + done, m.size - done);
      if (n <= 0) throw Error(ExitStatus::rank_lost, "test", "a socket closed, expected data");
      done += static_cast<std::size_t>(n);
    }
  }
  std::vector<int> sockets_;
};

}  // namespace

double steady_seconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

Watchdog::Callback note_loss(ForkedReport& report, bool end) {
  return [&report, end](const Loss& loss) {
    ++report.callbacks;
    report.called_at = steady_seconds();
    report.rank = loss.rank;
    report.phase = loss.phase;
    report.step = loss.step;
    report.exit_status = loss.exit_status;
    report.reporter = loss.reporter;
    report.told_announced = loss.announced;
    std::snprintf(report.cause, sizeof report.cause, "%s", loss.cause.c_str());
    std::snprintf(report.host, sizeof report.host, "%s", loss.host.c_str());
    if (end) _exit(7);
  };
}

const ForkedReport* run_forked(int size, const ForkedBody& body) {
  const auto n = static_cast<std::size_t>(size);
  auto* reports = static_cast<ForkedReport*>(
      mmap(nullptr, n * sizeof(ForkedReport), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  for (std::size_t r = 0; r < n; ++r) reports[r] = ForkedReport();
  std::vector<std::vector<int>> sockets(n, std::vector<int>(n, -1));
  for (std::size_t a = 0; a < n; ++a)
    for (std::size_t b = a + 1; b < n; ++b) {
      int pair[2];
      if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) throw std::runtime_error("socketpair");
      sockets[a][b] = pair[0];
      sockets[b][a] = pair[1];
    }
  std::fflush(nullptr);
  std::vector<pid_t> children;
  for (int r = 0; r < size; ++r) {
    const pid_t pid = fork();
    if (pid != 0) {
      children.push_back(pid);
      continue;
    }
    const auto me = static_cast<std::size_t>(r);
    for (std::size_t a = 0; a < n; ++a)
      for (std::size_t b = 0; b < n; ++b)
        if (a != me && sockets[a][b] >= 0) close(sockets[a][b]);
    signal(SIGSEGV, SIG_DFL);
    alarm(30);
    try {
      SocketGroup group(r, sockets[me]);
      body(group, reports[me]);
      _exit(testing::Test::HasFailure() ? 97 : 0);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "rank %d: %s\n", r, e.what());
      _exit(98);
    }
  }
  for (const auto& row : sockets)
    for (int fd : row)
      if (fd >= 0) close(fd);
  for (std::size_t r = 0; r < n; ++r) waitpid(children[r], &reports[r].wait_status, 0);
  return reports;
}

}  // namespace fourmi
