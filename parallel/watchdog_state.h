// The inside of a Watchdog, shared by its calls (watchdog.cpp) and its thread (watchdog_thread.cpp).
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "parallel/watchdog.h"
#include "parallel/watchdog_hang.h"
#include "parallel/watchdog_star.h"

namespace fourmi {
namespace watchdog {

/// What a rank does, in one word, so that phase and step are read and written together.
constexpr std::int64_t pack(int phase, std::int64_t step) {
  return static_cast<std::int64_t>(phase) << 48 | step;
}
constexpr int phase_of(std::int64_t activity) {
  return static_cast<int>(activity >> 48);
}
constexpr std::int64_t step_of(std::int64_t activity) {
  return activity & ((std::int64_t{1} << 48) - 1);
}

/// What one rank knows of another, or of itself.
struct Peer {
  std::atomic<std::int64_t> activity{0};
  std::atomic<bool> untold{false};  ///< the watchdog's thread is to send the activity on
  bool closed = false;              ///< its connection; the thread's own
  bool gone = false;                ///< said goodbye, or is lost
  bool heard = false;               ///< has answered the last record that wants an answer, or cannot any more
  // Of its beats; the thread's own.
  std::chrono::milliseconds beat_at{0}, idle{0};  ///< when the last one came (of `awake`); what it said of progress
  WaitingCall call;
};

}  // namespace watchdog

struct Watchdog::State {
  State(Group& world, Callback callback, HangLimit hang);

  const int rank, size;
  const Callback on_lost;
  const HangLimit hang;
  const std::shared_ptr<CallNotes> calls;
  watchdog::Star star;
  int wake = -1;  // an eventfd
  std::thread thread;
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> num_phases{0};  // calls of set_phase: each is progress

  std::mutex mutex;  // of all below, except the atomics in `peers`
  std::condition_variable changed;
  std::vector<watchdog::Peer> peers;  // by rank
  std::optional<Loss> loss;           // the first; all others are its consequences. Never changes once set
  std::optional<Loss> announced;      // here, and not yet known to be the first
  bool loss_is_mine = false;          // announced here, and the first
  bool callback_done = false;
  bool ended = false;  // announced or said goodbye: no callback here

  bool is_hub() const { return rank == 0; }
  watchdog::Peer& peer(int r) { return peers[static_cast<std::size_t>(r)]; }
  /// The connection to rank r, or null.
  watchdog::Link* link(int r) const;
  /// Wakes the thread.
  void ring() const;

  watchdog::Record phase_record(int r);
  static watchdog::Record lost_record(const Loss& loss);
  /// `failed`: the announcement or what rank 0 tells, null where the rank ended without a word. With the mutex held.
  Loss make_loss(int lost, const watchdog::Record* failed);
  /// Notes a loss; false if another was first. With the mutex held.
  bool first_loss(Loss l);
  /// Has everyone whom this rank talks to answered, or gone? With the mutex held.
  bool all_heard();
  /// Rank 0 to all others that it has a connection to.
  void tell_all_but(int except, const watchdog::Record& record);

  /// The thread's body.
  void run();

 private:
  bool read(int from);
  void on_record(int from, const watchdog::Record& record);
  void on_loss(int lost, const watchdog::Record* failed);
  void on_told_loss(const watchdog::Record& record);
  void run_callback(const Loss& l);
  bool wait_for_end(int from, std::chrono::milliseconds limit);
  void wait_for_my_turn(const Loss& l);
  void flush_all();
  bool has_news();
  void forward_phases();

  // Hangs (watchdog_beats.cpp); the thread's own.
  int next_wake_ms();
  void beat();
  void on_beat(const watchdog::Record& record);
  void note_progress();
  void judge();
  void judge_rank_0();
  bool is_stuck(int r);
  void on_hang(const watchdog::HangVerdict& verdict, int reporter);
  void end_stopped_ranks();
  std::chrono::milliseconds beat_period() const;
  std::chrono::milliseconds patience(int phase) const;
  std::chrono::steady_clock::time_point last_look_{}, last_beat_{};
  std::chrono::milliseconds awake_{0}, progress_at_{0};
  std::uint64_t seen_progress_ = 0;
};

}  // namespace fourmi
