// Which call of which group a rank waits in, for who looks from outside: the watchdog names it when a run hangs. All
// groups of a rank (a group and its subgroups) share one CallNotes. The rank's own thread notes by relaxed stores,
// without a lock or an allocation; any thread may look.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace fourmi {

enum class Call : std::uint8_t { none, all_gather, all_to_all, broadcast, barrier, send, receive, all_max, all_sum };
inline constexpr std::size_t num_calls = 9;
const char* name_of(Call call);

/// A call that a rank waits in: the `number`-th collective of the group on this rank, so that the same call has the
/// same number on every member; a send or receive has the number of the collective before it.
struct WaitingCall {
  Call call = Call::none;  ///< none: the rank is in code of its own
  std::string group;
  std::int64_t number = 0;
  bool operator==(const WaitingCall&) const = default;
};

class Group;

/// Sees every call of a group with other members before it is made, on the rank's own thread; may throw.
class CallObserver {
 public:
  virtual ~CallObserver() = default;
  virtual void called(const Group& group, Call call) = 0;
};

class CallNotes {
 public:
  /// A group of this rank; its index for pack().
  int add_group(std::string name);

  static std::uint64_t pack(Call call, int group, std::int64_t number) {
    return static_cast<std::uint64_t>(call) << 56 | (static_cast<std::uint64_t>(group) & 0xffff) << 40 |
           (static_cast<std::uint64_t>(number) & 0xffffffffff);
  }
  void enter(std::uint64_t call) { waiting_.store(call, std::memory_order_relaxed); }
  void leave() {
    waiting_.store(0, std::memory_order_relaxed);
    left_.store(left_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // one thread writes
  }

  /// At most one; null: nobody looks.
  void observe(CallObserver* observer) { observer_ = observer; }
  CallObserver* observer() const { return observer_; }

  WaitingCall waiting() const;
  /// Grows with every call that ends: who makes calls makes progress.
  std::uint64_t num_left() const { return left_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> waiting_{0}, left_{0};
  mutable std::mutex mutex_;  // of the names
  std::vector<std::string> groups_;
  CallObserver* observer_ = nullptr;  // of the rank's own thread
};

}  // namespace fourmi
