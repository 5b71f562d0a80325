#include "framework/run/signals.h"

#include <signal.h>
#include <time.h>

#include <array>
#include <atomic>
#include <cstdint>

#include "kernels/runtime/error.h"

namespace fourmi {

namespace {

constexpr std::array handled{SIGUSR1, SIGTERM, SIGINT};

// A handler can reach nothing but globals; lock-free, so they are safe in it.
std::atomic<int> first_signal{0};
std::atomic<std::int64_t> first_time_ns{0};
std::atomic<bool> installed{false};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<std::int64_t>::is_always_lock_free);

// A job manager that signals every process of a job, and a launcher that forwards its own, send one wish twice within
// milliseconds.
constexpr std::int64_t same_wish_ns = 100'000'000;

std::int64_t now_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

extern "C" void fourmi_on_stop_signal(int signal) {
  int none = 0;
  if (first_signal.compare_exchange_strong(none, signal)) {
    first_time_ns = now_ns();
    return;
  }
  const std::int64_t first = first_time_ns.load();  // 0: the first signal's handler is still at it, in another thread
  if (first == 0 || now_ns() - first < same_wish_ns) return;
  ::signal(signal, SIG_DFL);
  ::raise(signal);  // delivered when this handler returns
}

std::array<struct sigaction, handled.size()> previous;

}  // namespace

StopSignals::StopSignals() {
  FOURMI_CHECK(!installed.exchange(true), "stop signals are handled already");
  first_time_ns = 0;
  first_signal = 0;
  struct sigaction action {};
  action.sa_handler = fourmi_on_stop_signal;
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < handled.size(); ++i) ::sigaction(handled[i], &action, &previous[i]);
}

StopSignals::~StopSignals() {
  for (std::size_t i = 0; i < handled.size(); ++i) ::sigaction(handled[i], &previous[i], nullptr);
  first_signal = 0;
  installed = false;
}

int StopSignals::requested() noexcept {
  return first_signal.load(std::memory_order_relaxed);
}

const char* StopSignals::name_of(int signal) noexcept {
  switch (signal) {
    case SIGUSR1:
      return "SIGUSR1";
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    default:
      return "a signal";
  }
}

}  // namespace fourmi
