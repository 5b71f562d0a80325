// How the watchdog finds a run that hangs: beats to and from rank 0, and who judges what when. All of it runs on the
// watchdog's thread.
#include <algorithm>

#include "parallel/watchdog_state.h"

namespace fourmi {

using std::chrono::milliseconds;
using watchdog::RankView;
using watchdog::Record;
using Clock = std::chrono::steady_clock;

namespace {
constexpr int beats_in_limit = 8, slow_factor = 10;
constexpr milliseconds least_period{20}, most_period{5000};
constexpr milliseconds reporter_first{2000};  // rank 0 is silent: whoever reports it ends before the others do
}  // namespace

milliseconds Watchdog::State::beat_period() const {
  return std::clamp(hang.limit / beats_in_limit, least_period, most_period);
}

milliseconds Watchdog::State::patience(int phase) const {
  const bool slow = phase < 32 && (hang.slow_phases >> phase & 1) != 0;
  return hang.limit * (slow ? slow_factor : 1);
}

/// Milliseconds until beat() has something to do; -1: never.
int Watchdog::State::next_wake_ms() {
  if (hang.limit.count() == 0) return -1;
  const auto left = std::chrono::ceil<milliseconds>(last_beat_ + beat_period() - Clock::now());
  return static_cast<int>(std::clamp(left, milliseconds(0), beat_period()).count());
}

void Watchdog::State::beat() {
  if (hang.limit.count() == 0) return;
  const auto now = Clock::now();
  if (now < last_beat_ + beat_period()) return;
  // A gap that is longer than two periods is time in which this process did not run: nothing can be said of the others
  // then.
  if (last_look_ != Clock::time_point())
    awake_ += std::min(std::chrono::duration_cast<milliseconds>(now - last_look_), 2 * beat_period());
  last_look_ = last_beat_ = now;
  note_progress();
  const watchdog::Peer& me = peer(rank);
  Record record = phase_record(rank);
  record.kind = Record::Kind::beat;
  record.text = watchdog::to_beat(me.idle, me.call);
  for (int r = 0; r < size; ++r)
    if (watchdog::Link* to = link(r); to && !peer(r).closed)
      to->try_send(record);  // a full buffer: the other does not read
  {
    const std::lock_guard lock(mutex);
    if (loss || ended) return;
  }
  if (is_hub())
    judge();
  else
    judge_rank_0();
}

void Watchdog::State::note_progress() {
  watchdog::Peer& me = peer(rank);
  // Counts, not states: a state looked at a few times may be the same one again.
  const std::uint64_t progress = num_phases.load(std::memory_order_relaxed) + calls->num_left();
  if (progress != seen_progress_) progress_at_ = awake_;
  seen_progress_ = progress;
  me.idle = awake_ - progress_at_;
  me.call = calls->waiting();
  me.beat_at = awake_;
}

void Watchdog::State::on_beat(const Record& record) {
  watchdog::Peer& p = peer(record.rank);
  if (watchdog::from_beat(record.text, p.idle, p.call)) p.beat_at = awake_;
}

bool Watchdog::State::is_stuck(int r) {
  const watchdog::Peer& p = peer(r);
  return awake_ - p.beat_at >= hang.limit || p.idle >= patience(watchdog::phase_of(p.activity));
}

/// Rank 0: hung is a run in which no rank gets on, for where one does the others may well wait for it.
void Watchdog::State::judge() {
  std::vector<RankView> views(static_cast<std::size_t>(size));
  {
    const std::lock_guard lock(mutex);
    for (int r = 0; r < size; ++r) {
      watchdog::Peer& p = peer(r);
      RankView& v = views[static_cast<std::size_t>(r)];
      v.gone = p.gone;
      if (v.gone) continue;
      if (!is_stuck(r)) return;
      v.silent = awake_ - p.beat_at >= hang.limit / 2;
      v.since = v.silent ? awake_ - p.beat_at : p.idle;
      v.call = p.call;
    }
  }
  on_hang(explain_hang(views, hang.limit), 0);
}

/// The others: rank 0 may be the one that does not run. They know of nobody else.
void Watchdog::State::judge_rank_0() {
  int reporter = 1;
  {
    const std::lock_guard lock(mutex);
    if (peer(0).gone) return;
    while (reporter < size - 1 && peer(reporter).gone) ++reporter;
  }
  const milliseconds silence = awake_ - peer(0).beat_at;
  if (silence < hang.limit + (rank == reporter ? milliseconds(0) : reporter_first) || !is_stuck(rank)) return;
  std::vector<RankView> views(static_cast<std::size_t>(size));
  for (RankView& v : views) v.gone = true;
  views[0] = {false, true, silence, peer(0).call};
  views[static_cast<std::size_t>(rank)] = {false, false, peer(rank).idle, peer(rank).call};
  on_hang(explain_hang(views, hang.limit), reporter);
}

void Watchdog::State::on_hang(const watchdog::HangVerdict& verdict, int reporter) {
  {
    const std::lock_guard lock(mutex);
    if (loss || ended) return;
    Loss l = make_loss(verdict.rank, nullptr);
    l.cause = verdict.cause;
    l.hung = true;
    l.reporter = reporter;
    first_loss(std::move(l));
  }
  if (is_hub()) {
    tell_all_but(0, lost_record(*loss));
    flush_all();
  }
  run_callback(*loss);
}

void Watchdog::State::end_stopped_ranks() {
  if (static_cast<std::size_t>(rank) >= star.processes.size()) return;
  const RankProcess& mine = star.processes[static_cast<std::size_t>(rank)];
  for (const RankProcess& other : star.processes)
    if (other.id != mine.id && mine.shares_host(other) && other.is_stopped()) other.kill();
}

}  // namespace fourmi
