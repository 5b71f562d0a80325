#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include "kernels/runtime/error.h"
#include "parallel/watchdog_state.h"

namespace fourmi {

using watchdog::Link;
using watchdog::Record;
using Kind = Record::Kind;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

namespace {
constexpr auto forward_period = 50ms;  // news of phases, where the training thread has not told them itself
constexpr std::chrono::milliseconds reporting_time{1000};  // for whoever's turn it is
constexpr auto telling_time = 300ms;  // for the last records to leave, before a callback may end the process
}  // namespace

Loss Watchdog::State::make_loss(int lost, const Record* failed) {
  const std::int64_t activity = peer(lost).activity;
  Loss l;
  l.rank = lost;
  l.phase = failed ? failed->phase : watchdog::phase_of(activity);
  l.step = failed ? failed->step : watchdog::step_of(activity);
  l.cause = failed ? failed->text
                   : fmt::format("rank {} ended without a word (killed or crashed), expected it to run on", lost);
  l.exit_status = failed ? failed->exit_status : static_cast<int>(ExitStatus::rank_lost);
  l.announced = failed && failed->announced;
  l.host = star.hosts[static_cast<std::size_t>(lost)];
  l.reporter = lost == 0 ? 1 : 0;
  while (l.reporter < size - 1 && (peer(l.reporter).gone || l.reporter == lost)) ++l.reporter;
  return l;
}

bool Watchdog::State::first_loss(Loss l) {
  peer(l.rank).gone = true;
  if (loss) return false;
  loss = std::move(l);
  return true;
}

bool Watchdog::State::all_heard() {
  for (int r = 0; r < size; ++r)
    if (link(r) && !peer(r).heard && !peer(r).gone) return false;
  return true;
}

void Watchdog::State::tell_all_but(int except, const Record& record) {
  for (int r = 1; r < size; ++r)
    if (Link* to = r == except ? nullptr : link(r)) to->send(record);
}

void Watchdog::State::flush_all() {
  const auto end = Clock::now() + telling_time;
  for (int r = 0; r < size; ++r)
    while (link(r) && !link(r)->flush() && Clock::now() < end) usleep(1000);
}

// Until the connection closes, or its reporter says that it has reported. False after the time is over.
bool Watchdog::State::wait_for_end(int from, std::chrono::milliseconds limit) {
  const auto end = Clock::now() + limit;
  while (!stop && Clock::now() < end) {
    pollfd polled{link(from)->fd(), POLLIN, 0};
    if (poll(&polled, 1, 20) != 1) continue;
    std::vector<Record> records;
    if (!link(from)->receive(records)) return true;
    for (const Record& record : records)
      if (record.kind == Kind::reported) return true;
  }
  return false;
}

// The order of Watchdog::Callback.
void Watchdog::State::wait_for_my_turn(const Loss& l) {
  if (is_hub()) {
    if (l.announced) wait_for_end(l.rank, reporting_time);
  } else if (l.reporter == 0) {
    wait_for_end(0, l.announced ? 2 * reporting_time : reporting_time);
  } else {
    if (l.announced && l.rank == 0) wait_for_end(0, reporting_time);
    const auto end = Clock::now() + reporting_time;  // nothing is seen of a reporter that is not rank 0
    while (l.reporter != rank && !stop && Clock::now() < end) usleep(20'000);
  }
}

void Watchdog::State::run_callback(const Loss& l) {
  wait_for_my_turn(l);
  end_stopped_ranks();
  on_lost(l);
  if (is_hub()) tell_all_but(l.rank, {.kind = Kind::reported});
  std::lock_guard lock(mutex);
  callback_done = true;
  changed.notify_all();
}

// Rank 0 tells the others before its own callback, which may end the process.
void Watchdog::State::on_loss(int lost, const Record* failed) {
  bool mine = false;
  {
    std::lock_guard lock(mutex);
    if (!first_loss(make_loss(lost, failed))) return;
    mine = !ended;
  }
  if (is_hub()) {
    if (failed) link(lost)->send({.kind = Kind::heard});
    tell_all_but(lost, lost_record(*loss));
    flush_all();
  }
  if (mine) run_callback(*loss);
}

void Watchdog::State::on_told_loss(const Record& record) {
  link(0)->send({.kind = Kind::heard, .rank = rank});
  flush_all();
  bool mine = false;
  {
    std::lock_guard lock(mutex);
    Loss l = make_loss(record.rank, &record);
    l.reporter = record.reporter;
    l.hung = record.hung;
    mine = first_loss(std::move(l)) && !ended;
  }
  if (mine) run_callback(*loss);
}

void Watchdog::State::on_record(int from, const Record& record) {
  if (record.rank < 0 || record.rank >= size) return;
  switch (record.kind) {
    case Kind::phase:
      peer(record.rank).activity = watchdog::pack(record.phase, record.step);
      peer(record.rank).untold = is_hub();
      break;
    case Kind::goodbye: {
      {
        std::lock_guard lock(mutex);
        peer(record.rank).gone = true;
      }
      if (record.rank == from) link(from)->send({.kind = Kind::heard, .rank = rank});
      if (is_hub()) tell_all_but(from, record);  // who is gone is no reporter
      break;
    }
    case Kind::heard: {
      std::lock_guard lock(mutex);
      peer(from).heard = true;
      // Rank 0 answers an announcement only if it was the first. It may end at once after that, which is no second
      // loss.
      if (announced && !is_hub()) loss_is_mine = first_loss(*announced);
      changed.notify_all();
      break;
    }
    case Kind::failed:
      if (is_hub()) on_loss(from, &record);
      break;
    case Kind::lost:
      if (!is_hub()) on_told_loss(record);
      break;
    case Kind::beat:
      on_beat(record);
      break;
    case Kind::reported:
    case Kind::hello:
    case Kind::welcome:
      break;
  }
}

// False once the connection is closed.
bool Watchdog::State::read(int from) {
  std::vector<Record> records;
  const bool open = link(from)->receive(records);
  for (const Record& record : records) on_record(from, record);
  if (open) return true;
  bool expected = false;
  {
    std::lock_guard lock(mutex);
    expected = peer(from).gone;
  }
  if (!expected) on_loss(from, nullptr);
  std::lock_guard lock(mutex);
  peer(from).heard = peer(from).closed = true;
  changed.notify_all();
  return false;
}

bool Watchdog::State::has_news() {
  for (const auto& p : peers)
    if (p.untold) return true;
  return false;
}

// To whom a backlog waits, nothing is added: the activity stays untold and is sent again. So it is if the training
// thread has told a newer one meanwhile, which the one sent here may have overtaken.
void Watchdog::State::forward_phases() {
  for (int r = 0; r < size; ++r) {
    if (!peer(r).untold.exchange(false)) continue;
    const Record record = phase_record(r);
    bool told = true;
    for (int to = 0; to < size; ++to)
      if (link(to) && to != r && !peer(to).closed) told &= link(to)->try_send(record);
    if (!told || peer(r).activity != watchdog::pack(record.phase, record.step)) peer(r).untold = true;
  }
}

void Watchdog::State::run() {
  std::vector<pollfd> polled;
  std::vector<int> ranks, open;
  for (int r = 0; r < size; ++r)
    if (link(r) && read(r)) open.push_back(r);
  auto next_forward = Clock::now();
  while (!stop) {
    polled.assign(1, {wake, POLLIN, 0});
    for (int r : open)
      polled.push_back({link(r)->fd(), static_cast<short>(link(r)->has_backlog() ? POLLIN | POLLOUT : POLLIN), 0});
    int timeout = has_news() ? static_cast<int>(forward_period / 1ms) : -1;
    if (const int wake_ms = next_wake_ms(); wake_ms >= 0) timeout = timeout < 0 ? wake_ms : std::min(timeout, wake_ms);
    poll(polled.data(), polled.size(), timeout);
    if (polled[0].revents != 0) {
      std::uint64_t rings = 0;
      [[maybe_unused]] const ssize_t n = ::read(wake, &rings, sizeof rings);
    }
    ranks = open;
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      const short events = polled[i + 1].revents;
      if (events & POLLOUT) link(ranks[i])->flush();
      if ((events & ~POLLOUT) && !read(ranks[i])) std::erase(open, ranks[i]);
    }
    if (const auto now = Clock::now(); now >= next_forward) {
      forward_phases();
      next_forward = now + forward_period;
    }
    beat();
  }
}

}  // namespace fourmi
