#include "parallel/watchdog.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kernels/runtime/thread.h"
#include "parallel/watchdog_state.h"

namespace fourmi {

using watchdog::Link;
using watchdog::Record;
using Kind = Record::Kind;

namespace {
constexpr int told_at_once = 8;  // ranks that hear of rank 0's phase from its training thread
constexpr std::chrono::milliseconds answer_time{1000};
}  // namespace

Watchdog::State::State(Group& world, Callback callback, HangLimit hang_limit)
    : rank(world.rank()),
      size(world.size()),
      on_lost(std::move(callback)),
      hang(hang_limit),
      calls(world.calls()),
      peers(static_cast<std::size_t>(world.size())) {}

Link* Watchdog::State::link(int r) const {
  return static_cast<std::size_t>(r) < star.links.size() ? star.links[static_cast<std::size_t>(r)].get() : nullptr;
}

void Watchdog::State::ring() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(wake, &one, sizeof one);  // fails only when it rings already
}

Record Watchdog::State::phase_record(int r) {
  const std::int64_t activity = peer(r).activity;
  return {.kind = Kind::phase, .rank = r, .phase = watchdog::phase_of(activity), .step = watchdog::step_of(activity)};
}

Record Watchdog::State::lost_record(const Loss& l) {
  return {Kind::lost, l.rank, l.phase, l.exit_status, l.reporter, l.step, l.announced, l.hung, l.cause};
}

Watchdog::Watchdog(Group& world, Callback on_lost, HangLimit hang)
    : state_(std::make_unique<State>(world, std::move(on_lost), hang)) {
  State& s = *state_;
  if (s.size == 1 && hang.limit.count() == 0) return;
  s.star = watchdog::connect_star(world);
  s.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (s.wake < 0)
    throw Error(ExitStatus::environment, "watchdog", "no file descriptor left, expected a free one", "Raise ulimit -n");
  // Signals are the main thread's.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  s.thread = start_thread("watchdog", [&s] { s.run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(s.thread.native_handle(), "watchdog");
}

Watchdog::~Watchdog() {
  State& s = *state_;
  if (!s.thread.joinable()) return;
  s.stop = true;
  s.ring();
  s.thread.join();
  close(s.wake);
}

void Watchdog::set_phase(int phase, std::int64_t step) {
  State& s = *state_;
  FOURMI_CHECK(0 <= phase && phase < (1 << 15) && 0 <= step && step < (std::int64_t{1} << 48), "phase {}, step {}",
               phase, step);
  const std::int64_t activity = watchdog::pack(phase, step);
  s.num_phases.fetch_add(1, std::memory_order_relaxed);
  if (s.peer(s.rank).activity.exchange(activity) == activity || s.size == 1) return;
  const Record record = s.phase_record(s.rank);
  bool all_told = true;
  if (s.is_hub()) {
    for (int r = 1; r < s.size && r <= told_at_once; ++r) all_told &= s.link(r)->try_send(record);
    all_told &= s.size - 1 <= told_at_once;
  } else {
    all_told = s.link(0)->try_send(record);
  }
  if (!all_told && !s.peer(s.rank).untold.exchange(true)) s.ring();
}

bool Watchdog::announce_failure(const std::string& message, int exit_status) {
  State& s = *state_;
  if (s.size == 1) {
    const std::lock_guard lock(s.mutex);
    s.ended = true;
    return true;
  }
  Record failed = s.phase_record(s.rank);
  failed.kind = Kind::failed;
  failed.exit_status = exit_status;
  failed.announced = true;
  failed.text = message;
  std::unique_lock lock(s.mutex);
  if (s.ended) return true;
  for (auto& p : s.peers) p.heard = false;
  if (!s.loss) {
    s.announced = s.make_loss(s.rank, &failed);
    if (s.is_hub()) {
      s.loss_is_mine = s.first_loss(*s.announced);
      s.tell_all_but(0, State::lost_record(*s.announced));
    } else {
      s.link(0)->send(failed);
    }
  }
  s.ring();
  const auto another_first = [&] { return s.loss && !s.loss_is_mine; };
  s.changed.wait_for(lock, answer_time, [&] { return another_first() || s.all_heard(); });
  if (!another_first()) {
    s.ended = true;
    return true;
  }
  s.changed.wait(lock, [&] { return s.callback_done; });
  return false;
}

bool Watchdog::wait_for_loss(std::chrono::milliseconds timeout) {
  State& s = *state_;
  if (s.size == 1) return false;
  std::unique_lock lock(s.mutex);
  return s.changed.wait_for(lock, timeout, [&] { return s.callback_done; });
}

void Watchdog::goodbye() {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  if (s.size == 1) {
    s.ended = true;
    return;
  }
  if (s.ended || s.loss) return;
  s.ended = s.peer(s.rank).gone = true;
  for (auto& p : s.peers) p.heard = false;
  const Record record{.kind = Kind::goodbye, .rank = s.rank};
  if (s.is_hub()) {
    s.tell_all_but(0, record);
  } else {
    s.link(0)->send(record);
  }
  s.ring();
  s.changed.wait_for(lock, answer_time, [&] { return s.all_heard(); });
}

}  // namespace fourmi
