// Rows of other nodes on their way to the ranks of this one. Who got them sends them on as they came, with their
// records, as soon as they are there. For host and device alike; what follows is that of all rows (lanes.h).
#pragma once

#include "kernels/exchange/lanes.h"

namespace fourmi::exchange {

/// To one rank, rows of a run that go there. The ranks of a row take the place of experts: Tokens::experts_each is 1.
class SendForwards {
 public:
  FOURMI_INLINE SendForwards() {}
  /// `records`: of all rows, record_bytes each; null: none travel.
  FOURMI_INLINE SendForwards(RingWriter* ring, const Tokens& rows, const std::byte* records, std::int64_t record_bytes,
                             TokenRun run, int to)
      : ring_(ring), rows_(rows), records_(records), record_bytes_(record_bytes), run_(run), to_(to) {}

  /// The rows have come. Until then nothing goes.
  FOURMI_INLINE void open() { open_ = true; }

  template <class Agent>
  FOURMI_INLINE Progress step(Agent& agent) {
    if (!open_) return Progress::stuck;
    bool moved = false;
    for (; (run_.begin = next_token(agent, rows_, run_.begin, run_.end, to_)) < run_.end; ++run_.begin) {
      if (!ring_->has_room(agent)) return moved ? Progress::moved : Progress::stuck;
      std::byte* const slot = ring_->next();
      agent.copy(slot, rows_.rows + run_.begin * rows_.row_bytes, rows_.row_bytes);
      if (records_) agent.copy(slot + rows_.record_at, records_ + run_.begin * record_bytes_, record_bytes_);
      ring_->push(agent);
      moved = true;
    }
    ring_->flush(agent);
    return Progress::done;
  }

 private:
  RingWriter* ring_ = nullptr;
  Tokens rows_;
  const std::byte* records_ = nullptr;
  std::int64_t record_bytes_ = 0;
  TokenRun run_;
  int to_ = 0;
  bool open_ = false;
};

}  // namespace fourmi::exchange
