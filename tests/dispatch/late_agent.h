// An agent that is late at random, and watches what its rank writes into the windows of all ranks.
#pragma once

#include <atomic>
#include <thread>

#include "kernels/exchange/host_agent.h"
#include "kernels/exchange/window.h"
#include "kernels/numerics/mix.h"
#include "tests/dispatch/member.h"

namespace fourmi::testing {

/// What the ranks of one dispatcher wrote, over all of them.
class Watch {
 public:
  explicit Watch(int num_ranks) : base_(static_cast<std::size_t>(num_ranks)) {}

  /// Before rank's window is told to the others.
  void open(int rank, const exchange::Window& layout, const Tensor& memory) {
    if (rank == 0) layout_ = layout;
    base_[static_cast<std::size_t>(rank)] = static_cast<std::byte*>(memory.data);
  }
  /// A copy of bytes to a window goes to slots; what goes elsewhere is not the windows' concern.
  void copied(const std::byte* to, std::int64_t bytes) {
    for (const std::byte* base : base_)
      if (to >= base && to < base + layout_.bytes())
        outside_ += to < base + layout_.zeroed_bytes() || to + bytes > base + layout_.bytes();
  }
  /// A flag is one of those in front of the slots. Where it is a tail, as many rows are under way on its ring as it is
  /// ahead of the head.
  void released(int rank, const std::uint64_t* flag, std::uint64_t value) {
    const auto* at = reinterpret_cast<const std::byte*>(flag);
    for (std::size_t r = 0; r < base_.size(); ++r) {
      const std::int64_t place = at - base_[r];
      if (place < 0 || place >= layout_.bytes()) continue;
      outside_ += place % 8 != 0 || place >= layout_.zeroed_bytes();
      for (const exchange::Way way : {exchange::Way::dispatch, exchange::Way::combine})
        for (int c = 0; c < layout_.sizes().num_channels; ++c)
          if (place == layout_.tail(way, rank, c)) {
            auto* head = reinterpret_cast<std::uint64_t*>(base_[static_cast<std::size_t>(rank)] +
                                                          layout_.head(way, static_cast<int>(r), c));
            const auto rows = static_cast<std::int64_t>(value - exchange::HostAgent{}.acquire(head));
            std::int64_t most = most_under_way_;
            while (rows > most && !most_under_way_.compare_exchange_weak(most, rows)) {
            }
          }
      return;
    }
    ++outside_;
  }

  /// Writes that were not to a place in the windows that is there for them.
  int outside() const { return outside_; }
  /// Rows on any ring.
  std::int64_t most_under_way() const { return most_under_way_; }

 private:
  exchange::Window layout_;
  std::vector<std::byte*> base_;
  std::atomic<int> outside_{0};
  std::atomic<std::int64_t> most_under_way_{0};
};

/// Stops now and then: before it looks, before it tells, and in the midst of a copy.
class LateAgent {
 public:
  static constexpr int most_choices = exchange::HostAgent::most_choices;

  LateAgent(std::uint64_t seed, int rank, Watch& watch) : state_(seed), rank_(rank), watch_(&watch) {}
  std::uint64_t acquire(const std::uint64_t* flag) {
    dawdle();
    return here_.acquire(flag);
  }
  void release(std::uint64_t* flag, std::uint64_t value) {
    dawdle();
    watch_->released(rank_, flag, value);
    here_.release(flag, value);
  }
  void copy(std::byte* to, const std::byte* from, std::int64_t bytes) {
    watch_->copied(to, bytes);
    const std::int64_t half = bytes / 2;
    here_.copy(to, from, half);
    dawdle();
    here_.copy(to + half, from + half, bytes - half);
  }

 private:
  void dawdle() {
    state_ = mix64(state_);
    if (state_ % 16 == 0) std::this_thread::yield();
    if (state_ % 512 == 1) std::this_thread::sleep_for(std::chrono::microseconds(state_ % 200));
  }
  exchange::HostAgent here_;
  std::uint64_t state_;
  int rank_;
  Watch* watch_;
};

}  // namespace fourmi::testing
