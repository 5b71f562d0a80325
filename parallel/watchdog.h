// A rank's watchdog: ranks learn within a second that a peer is gone, and end themselves, whatever the launcher does.
//
// One thread a rank. Rank 0 holds a TCP connection to every other rank (a star; 127.0.0.1 where all ranks share a host,
// else rank 0's IPv4 addresses; a random token, passed over the group, keeps strangers out). The kernel closes a dead
// process' connection at once: a connection that closes without a goodbye is a lost rank (SIGKILL, SIGSEGV, _exit, out
// of memory, a host that went away: TCP's keep-alive finds that within about 10 s). Rank 0 tells all others; if rank 0
// is lost, each sees its own connection close. Peers' last phases are known beforehand, so the message can name them.
//
// A process that lives but gets nowhere keeps its connection open. So every rank also sends a beat a few times within
// HangLimit::limit: what it does, which call of a group it waits in, and for how long nothing has ended. When no rank
// has got on for the limit, rank 0 says who is missing where (watchdog_hang.h), and all end. If rank 0 itself does not
// run, each of the others finds that by its silence. Ranks that are stopped (SIGSTOP) are killed by the others on their
// host. Time during which the judge did not run itself (a suspended machine, a stopped job) does not count.
//
// A core dump of a large process keeps its connection open until the dump is written.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "parallel/group.h"

namespace fourmi {

/// What happened to which rank, as every survivor is told.
struct Loss {
  int rank = 0;
  int phase = 0;           ///< its last set_phase
  std::int64_t step = 0;   ///< its last set_phase
  std::string cause;       ///< the announced message, or that it ended without a word
  int exit_status = 0;     ///< the announced one, or ExitStatus::rank_lost
  bool announced = false;  ///< by announce_failure, else it ended without a word, or hung
  bool hung = false;       ///< no rank got on; `rank` is the first of those that the others wait for
  std::string host;        ///< where it ran
  int reporter = 0;        ///< the lowest surviving rank: the one that writes status.json
};

/// When a run counts as hung: nothing has ended on any rank (no phase, no call of a group) for `limit`. Equal on all
/// ranks.
struct HangLimit {
  std::chrono::milliseconds limit{0};  ///< 0: hangs are not looked for
  std::uint32_t slow_phases = 0;       ///< bit p: in phase p a rank may take ten times as long (it waits for files)
};

class Watchdog {
 public:
  /// Runs on the watchdog's thread (the main thread may be stuck in MPI), at most once, after all other ranks were
  /// told. It may end the process. Not run on the rank whose announced failure it is, nor after goodbye().
  /// Not all at once, for mpirun kills what is left as soon as a second process ends (Open MPI 4.1 waits between
  /// SIGTERM and SIGKILL by a sleep that the end of any child cuts short: tried), and by then status.json must be
  /// written. First ends the rank that announced, if one did; then the reporter's callback runs, and the others' when
  /// it has returned or its process has ended. Each is waited for a second at most (and a full second where rank 0, who
  /// would know, is lost).
  using Callback = std::function<void(const Loss&)>;

  /// Collective over `world`. Throws Error(environment) if rank 0 cannot listen, Error(rank_lost) if a rank does not
  /// connect within 20 s. With one rank there is no socket, and without a hang limit no thread either.
  Watchdog(Group& world, Callback on_lost, HangLimit hang = {});
  /// Without a goodbye() before, the others take this rank for lost: right while an exception passes, and at no other
  /// time.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// What this rank does now; 0 <= phase < 2^15, 0 <= step < 2^48. Never waits for another rank: a store and, when
  /// something changed, one small send that is in the kernel's hands when this returns, so that a crash right after it
  /// is reported with it (rank 0 sends to the 8 lowest ranks at once, to the others within 50 ms).
  void set_phase(int phase, std::int64_t step);

  /// For a rank that ends with an error, before it ends: the others' callbacks get it. True if this was the first loss:
  /// all ranks have been told (or a second has passed), and this rank's own callback will not run. False if another
  /// rank's loss came first: then this rank's callback has run with that one. An Error(rank_lost) from a group's wait
  /// is the echo of somebody else's loss: call wait_for_loss() first.
  bool announce_failure(const std::string& message, int exit_status);

  /// Waits until a loss is known and this rank's callback has returned. False after the time is over.
  bool wait_for_loss(std::chrono::milliseconds timeout);

  /// An orderly end of this rank, usually after a barrier: its connection may close now. Returns when the others know,
  /// or after a second.
  void goodbye();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fourmi
