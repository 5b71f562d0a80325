// Hears of the way of each call of a rank's groups, on the rank's own thread: for a timeline. It takes the place of the
// observer that the rank's notes have, and passes on to the one before it what is for observers.
#pragma once

#include <cstdint>

#include "parallel/calls.h"

namespace fourmi {

class CallTimer : public CallObserver {
 public:
  /// Something starts to move: `call` as CallNotes packs it, `peer` the other rank in the group, -1: all of them.
  /// Returns a number for it, at least 0, or -1 where it is not to be heard of again.
  virtual std::int32_t started(std::uint64_t call, int peer, int tag, std::int64_t bytes) = 0;
  virtual void ended(std::int32_t number) = 0;
  /// From here to left() the rank does nothing but wait for that call, or carries its data itself. They nest.
  virtual void entered(std::uint64_t call) = 0;
  virtual void left() = 0;
  /// The call that was entered last: for a group around another one, which waits on its behalf.
  virtual std::uint64_t last() const = 0;
};

/// Null where nobody measures.
inline CallTimer* timer_of(const CallNotes& notes) {
  return notes.observer() ? dynamic_cast<CallTimer*>(notes.observer()) : nullptr;
}

/// What is noted of a rank from its construction to its end, or until an exception ends the rank.
class Waiting {
 public:
  Waiting(CallNotes& notes, std::uint64_t call) : notes_(notes), timer_(timer_of(notes)) {
    notes_.enter(call);
    if (timer_) timer_->entered(call);
  }
  void end() {
    if (timer_) timer_->left();
    notes_.leave();
  }

 private:
  CallNotes& notes_;
  CallTimer* timer_;
};

}  // namespace fourmi
