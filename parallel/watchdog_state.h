// The inside of a Watchdog, shared by its calls (watchdog.cpp) and its thread (watchdog_thread.cpp).
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "parallel/watchdog.h"
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
};

}  // namespace watchdog

struct Watchdog::State {
  State(Group& world, Callback callback);

  const int rank, size;
  const Callback on_lost;
  watchdog::Star star;
  int wake = -1;  // an eventfd
  std::thread thread;
  std::atomic<bool> stop{false};

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
};

}  // namespace fourmi
