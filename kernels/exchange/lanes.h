// What an agent does along its rings, a row at a time, and stops where it would have to wait. A thread of the CPU goes
// from lane to lane; a warp stays on its own and asks again. Order is canonical: rows of a source ascend by token, so
// that the place of each is known when counts are, whoever comes first.
//
// A row's slot: its bytes, and behind `record_at` its record (K ids, K weights), where records travel.
//
// Shapes   M tokens   K choices of a token, ascending   U rows that arrive   D columns
#pragma once

#include "kernels/exchange/window.h"

namespace fourmi::exchange {

enum class Progress : std::uint8_t { stuck, moved, done };

/// A rank's tokens and where their experts are.
struct Tokens {
  const std::byte* rows = nullptr;
  std::int64_t row_bytes = 0;
  const std::int32_t* experts_MK = nullptr;
  const std::byte* weights_MK = nullptr;  ///< null: no records travel
  std::int64_t weight_bytes = 0;          ///< of one
  int num_choices = 1, experts_each = 1;  ///< K; experts of a rank
  int num_ranks = 1;
  std::int64_t record_at = 0;

  FOURMI_INLINE int rank_of(std::int64_t token, int choice) const {
    return experts_MK[token * num_choices + choice] / experts_each;
  }
  FOURMI_INLINE bool goes_to(std::int64_t token, int rank) const {
    for (int k = 0; k < num_choices; ++k)
      if (rank_of(token, k) == rank) return true;
    return false;
  }
};

/// Tokens [begin, end) of a channel: the channels' runs are as equal as they can be.
struct TokenRun {
  std::int64_t begin = 0, end = 0;
};
FOURMI_INLINE constexpr TokenRun run_of(int channel, int num_channels, std::int64_t first, std::int64_t num_tokens) {
  return {first + num_tokens * channel / num_channels, first + num_tokens * (channel + 1) / num_channels};
}

/// The first of tokens [t, end) that goes to a rank; end: none. An agent of many threads may have a form of its own.
template <class Agent>
FOURMI_INLINE std::int64_t next_token(Agent&, const Tokens& tokens, std::int64_t t, std::int64_t end, int to) {
  while (t < end && !tokens.goes_to(t, to)) ++t;
  return t;
}

/// To one rank, the tokens of a channel that go there.
class SendTokens {
 public:
  FOURMI_INLINE SendTokens() {}
  FOURMI_INLINE SendTokens(RingWriter* ring, const Tokens& tokens, TokenRun run, int to)
      : ring_(ring), tokens_(tokens), run_(run), to_(to) {}

  template <class Agent>
  FOURMI_INLINE Progress step(Agent& agent) {
    bool moved = false;
    for (; (run_.begin = next_token(agent, tokens_, run_.begin, run_.end, to_)) < run_.end; ++run_.begin) {
      const std::int64_t t = run_.begin;
      if (!ring_->has_room(agent)) return moved ? Progress::moved : Progress::stuck;
      std::byte* const slot = ring_->next();
      agent.copy(slot, tokens_.rows + t * tokens_.row_bytes, tokens_.row_bytes);
      if (tokens_.weights_MK) {
        const std::int64_t K = tokens_.num_choices;
        std::byte* const record = slot + tokens_.record_at;
        agent.copy(record, reinterpret_cast<const std::byte*>(tokens_.experts_MK + t * K), 4 * K);
        agent.copy(record + 4 * K, tokens_.weights_MK + t * K * tokens_.weight_bytes, K * tokens_.weight_bytes);
      }
      ring_->push(agent);
      moved = true;
    }
    ring_->flush(agent);
    return Progress::done;
  }

 private:
  RingWriter* ring_ = nullptr;
  Tokens tokens_;
  TokenRun run_;
  int to_ = 0;
};

/// Where rows that arrive are put.
struct ArrivingRows {
  std::byte* rows = nullptr;
  std::int64_t row_bytes = 0;
  std::int64_t capacity = 0;     ///< rows that there is room for; what comes beyond is lost, and who asked is told
  std::byte* records = nullptr;  ///< as they came, record_bytes each; null: none travel
  std::int64_t record_bytes = 0, record_at = 0;
};

/// From one rank and channel, rows [first, first + count) of what arrives.
class ReceiveRows {
 public:
  FOURMI_INLINE ReceiveRows() {}
  FOURMI_INLINE ReceiveRows(RingReader* ring, const ArrivingRows& into, std::int64_t first, std::int64_t count)
      : ring_(ring), into_(into), row_(first), end_(first + count) {}

  template <class Agent>
  FOURMI_INLINE Progress step(Agent& agent) {
    const std::int64_t before = row_;
    for (; row_ < end_; ++row_) {
      if (!ring_->has_row(agent)) return row_ == before ? Progress::stuck : Progress::moved;
      const std::byte* const slot = ring_->next();
      const bool fits = row_ < into_.capacity;
      if (fits) agent.copy(into_.rows + row_ * into_.row_bytes, slot, into_.row_bytes);
      if (fits && into_.records)
        agent.copy(into_.records + row_ * into_.record_bytes, slot + into_.record_at, into_.record_bytes);
      ring_->pop(agent);
    }
    ring_->flush(agent);
    return Progress::done;
  }

 private:
  RingReader* ring_ = nullptr;
  ArrivingRows into_;
  std::int64_t row_ = 0, end_ = 0;
};

/// Back to one rank, what this one made of the rows [first, first + count) that came from there in a channel.
class SendResults {
 public:
  FOURMI_INLINE SendResults() {}
  FOURMI_INLINE SendResults(RingWriter* ring, const std::byte* rows, std::int64_t row_bytes, std::int64_t first,
                            std::int64_t count)
      : ring_(ring), rows_(rows), row_bytes_(row_bytes), row_(first), end_(first + count) {}

  template <class Agent>
  FOURMI_INLINE Progress step(Agent& agent) {
    const std::int64_t before = row_;
    for (; row_ < end_; ++row_) {
      if (!ring_->has_room(agent)) return row_ == before ? Progress::stuck : Progress::moved;
      agent.copy(ring_->next(), rows_ + row_ * row_bytes_, row_bytes_);
      ring_->push(agent);
    }
    ring_->flush(agent);
    return Progress::done;
  }

 private:
  RingWriter* ring_ = nullptr;
  const std::byte* rows_ = nullptr;
  std::int64_t row_bytes_ = 0, row_ = 0, end_ = 0;
};

/// What came back for the tokens of a channel, one after another: of each the copies of all ranks that it went to,
/// ranks ascending. Rings are those of the channel, one a rank, `between` apart; this rank's own results lie with it
/// and are rows of `own` from `first_own` on.
class ReceiveResults {
 public:
  FOURMI_INLINE ReceiveResults() {}
  FOURMI_INLINE ReceiveResults(RingReader* rings, int between, const Tokens& tokens, TokenRun run, int rank,
                               const std::byte* own, std::int64_t own_bytes, std::int64_t first_own)
      : rings_(rings),
        between_(between),
        tokens_(tokens),
        run_(run),
        rank_(rank),
        own_(own + first_own * own_bytes),
        own_bytes_(own_bytes) {}

  /// sum(agent, token, copies, ranks, n): the token's copies, n of them, at most K.
  template <class Agent, class Sum>
  FOURMI_INLINE Progress step(Agent& agent, const Sum& sum) {
    constexpr int most = Agent::most_choices;
    const std::int64_t before = run_.begin;
    for (; run_.begin < run_.end; ++run_.begin) {
      const std::byte* copies[most];
      std::int32_t ranks[most];
      int n = 0;
      for (int k = 0; k < tokens_.num_choices; ++k) {
        const int r = tokens_.rank_of(run_.begin, k);
        if (n > 0 && ranks[n - 1] == r) continue;
        if (r != rank_ && !ring(r).has_row(agent)) {
          waits_for_ = r;
          flush(agent);
          return run_.begin == before ? Progress::stuck : Progress::moved;
        }
        copies[n] = r == rank_ ? own_ : ring(r).next();
        ranks[n++] = r;
      }
      sum(agent, run_.begin, copies, ranks, n);
      for (int i = 0; i < n; ++i)
        if (ranks[i] == rank_)
          own_ += own_bytes_;
        else
          ring(ranks[i]).pop(agent);
    }
    flush(agent);
    return Progress::done;
  }
  /// Whom it is stuck for.
  FOURMI_INLINE int waits_for() const { return waits_for_; }

 private:
  FOURMI_INLINE RingReader& ring(int rank) const { return rings_[rank * between_]; }
  template <class Agent>
  FOURMI_INLINE void flush(Agent& agent) const {
    for (int r = 0; r < tokens_.num_ranks; ++r) ring(r).flush(agent);
  }
  RingReader* rings_ = nullptr;
  int between_ = 1;
  Tokens tokens_;
  TokenRun run_;
  int rank_ = 0, waits_for_ = -1;
  const std::byte* own_ = nullptr;
  std::int64_t own_bytes_ = 0;
};

}  // namespace fourmi::exchange
