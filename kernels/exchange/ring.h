// A ring of slots from one rank to another. Slots and tail lie with the receiver, the head lies with the sender, so
// that each polls its own memory and writes to the other's. Both count rows since the beginning of time: nothing is
// reset between calls, a call goes on where the last one ended, and who reads an old value only waits longer.
//
// An Agent is who walks along a ring: a thread of the CPU, or a warp. It knows how to reach another's memory:
//   acquire(flag)          the flag's value; what its writer wrote before it can be read from here on
//   release(flag, value)   writes the flag; all that this agent wrote or read before is done for who acquires it
//   copy(to, from, bytes)  by all threads of the agent
// For host and device alike.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/numerics/target.h"

namespace fourmi::exchange {

struct RingShape {
  std::int64_t slot_bytes = 0;  ///< a multiple of 16
  int num_slots = 0;
  int batch = 1;  ///< rows that are told of at once, at most half of the slots
};

/// One end's view: what is the other one's is an address in its memory.
struct Ring {
  std::byte* slots = nullptr;
  std::uint64_t* tail = nullptr;  ///< rows written
  std::uint64_t* head = nullptr;  ///< rows read
};

/// What is the same for both ends.
class RingEnd {
 public:
  FOURMI_INLINE RingEnd() {}
  FOURMI_INLINE RingEnd(const Ring& ring, const RingShape& shape, std::uint64_t at)
      : ring_(ring),
        shape_(shape),
        at_(at),
        told_(at),
        seen_(at),
        slot_(static_cast<int>(at % static_cast<unsigned>(shape.num_slots))) {}
  /// Rows so far, since the beginning of time: what the next call begins with.
  FOURMI_INLINE std::uint64_t at() const { return at_; }

 protected:
  FOURMI_INLINE std::byte* slot() const { return ring_.slots + slot_ * shape_.slot_bytes; }
  FOURMI_INLINE void advance() {
    ++at_;
    slot_ = slot_ + 1 == shape_.num_slots ? 0 : slot_ + 1;  // a division a row is dear on a card
  }
  template <class Agent>
  FOURMI_INLINE void tell(Agent& agent, std::uint64_t* flag) {
    if (told_ == at_) return;
    agent.release(flag, at_);
    told_ = at_;
  }
  FOURMI_INLINE bool has_untold(int batch) const { return at_ - told_ >= static_cast<unsigned>(batch); }

  Ring ring_;
  RingShape shape_;
  std::uint64_t at_ = 0, told_ = 0;  // rows; those that the other end knows of
  std::uint64_t seen_ = 0;           // of the other end, when last looked
  int slot_ = 0;                     // that row at_ has
};

class RingWriter : public RingEnd {
 public:
  using RingEnd::RingEnd;
  /// Is there a free slot? Where there is none, the reader is told of all rows, so that it cannot wait for this end.
  template <class Agent>
  FOURMI_INLINE bool has_room(Agent& agent) {
    // A head that was never looked at is at least what the last call ended with, less the slots.
    if (looked_ && at_ - seen_ < static_cast<unsigned>(shape_.num_slots)) return true;
    seen_ = agent.acquire(ring_.head), looked_ = true;
    if (at_ - seen_ < static_cast<unsigned>(shape_.num_slots)) return true;
    flush(agent);
    return false;
  }
  FOURMI_INLINE std::byte* next() const { return slot(); }
  /// The row in next() is there.
  template <class Agent>
  FOURMI_INLINE void push(Agent& agent) {
    advance();
    if (has_untold(shape_.batch)) flush(agent);
  }
  template <class Agent>
  FOURMI_INLINE void flush(Agent& agent) {
    tell(agent, ring_.tail);
  }

 private:
  bool looked_ = false;
};

class RingReader : public RingEnd {
 public:
  using RingEnd::RingEnd;
  /// Has the next row come? Where it has not, the writer is told of all that were read.
  template <class Agent>
  FOURMI_INLINE bool has_row(Agent& agent) {
    if (seen_ > at_) return true;
    seen_ = agent.acquire(ring_.tail);
    if (seen_ > at_) return true;
    flush(agent);
    return false;
  }
  FOURMI_INLINE const std::byte* next() const { return slot(); }
  /// The row in next() is not needed any more.
  template <class Agent>
  FOURMI_INLINE void pop(Agent& agent) {
    advance();
    if (has_untold(shape_.batch)) flush(agent);
  }
  template <class Agent>
  FOURMI_INLINE void flush(Agent& agent) {
    tell(agent, ring_.head);
  }
};

}  // namespace fourmi::exchange
