// The watchdog's connections: short records over TCP, sent without ever waiting.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace fourmi::watchdog {

struct Record {
  enum class Kind : std::uint8_t {
    hello,     ///< to rank 0: rank, text = token
    welcome,   ///< from rank 0: text = token
    phase,     ///< rank, phase, step
    failed,    ///< to rank 0: an announced failure
    lost,      ///< from rank 0: a loss, for the callback
    goodbye,   ///< rank ends in order
    reported,  ///< from rank 0, the reporter: its callback has returned
    heard,     ///< answer to failed, lost and goodbye
    beat,      ///< rank runs: phase, step, text = what it waits in (watchdog_hang.h)
  };
  Kind kind = Kind::heard;
  std::int32_t rank = 0, phase = 0, exit_status = 0, reporter = 0;
  std::int64_t step = 0;
  bool announced = false, hung = false;
  std::string text = {};  ///< cut at 2000 bytes when sent
};

/// One connected socket. Sending is for any thread, receiving for one.
class Link {
 public:
  explicit Link(int fd);  ///< takes the descriptor over
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  int fd() const { return fd_; }
  /// Hands the record to the kernel, or keeps it for flush() where the kernel's buffer is full.
  void send(const Record& record);
  /// The same, or false if a backlog waits. It waits for another thread's send at most, and those do not wait: giving
  /// up instead would lose the phase of a rank that crashes right after this.
  bool try_send(const Record& record);
  /// True if nothing is left to send.
  bool flush();
  bool has_backlog() const { return backlog_.load(std::memory_order_relaxed); }

  /// Appends what has arrived, at most `most` records; the rest comes with the next call. False once the other side has
  /// closed (or sent what is no record).
  bool receive(std::vector<Record>& records, std::size_t most = SIZE_MAX);

 private:
  bool flush_locked();
  int fd_;
  std::mutex mutex_;
  std::string out_, in_;
  std::atomic<bool> backlog_{false};
};

}  // namespace fourmi::watchdog
