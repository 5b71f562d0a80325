// Optimizer state that lives in host memory: brought to the device panel by panel for a step, and back. Two panels take
// turns, so that one travels while the other is computed on; that is all the memory that it takes on the device.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>

#include "kernels/ops/copy.h"
#include "kernels/runtime/arena.h"

namespace fourmi {

/// A rank's masters and moments, or the same rows of each; moments may be absent.
struct OptimizerState {
  Tensor master, exp_avg, exp_avg_sq;

  OptimizerState rows(std::int64_t begin, std::int64_t end) const {
    return {master.rows(begin, end), exp_avg ? exp_avg.rows(begin, end) : Tensor{},
            exp_avg_sq ? exp_avg_sq.rows(begin, end) : Tensor{}};
  }
};

class Staging {
 public:
  static constexpr std::int64_t most_elements = std::int64_t{1} << 20;  ///< of a panel: 4 MiB of masters

  /// Panels for pieces of at most `largest` elements.
  Staging(DType master, DType moments, std::int64_t largest, Arena& arena)
      : elements_(std::clamp<std::int64_t>(largest, 1, most_elements)) {
    for (Panel& p : panels_)
      p.state = {arena.allocate({elements_}, master, "master panels"),
                 arena.allocate({elements_}, moments, "moment panels"),
                 arena.allocate({elements_}, moments, "moment panels")};
  }

  enum class Back { yes, no };
  /// Calls compute(begin, end, state on the device) for the panels of `host` in order. With Back::yes what it leaves
  /// goes back.
  template <class Compute>
  void visit(const Stream& stream, const OptimizerState& host, Back back, const Compute& compute) {
    const std::int64_t n = host.master.num_elements(), count = (n + elements_ - 1) / elements_;
    const Stream copies = stream_of_copies(stream);
    begun_.record(stream);  // what it has before may concern the state
    begun_.wait(copies);
    const auto range = [&](std::int64_t i) { return std::pair(i * elements_, std::min(n, (i + 1) * elements_)); };
    const auto fetch = [&](std::int64_t i) {
      const auto [begin, end] = range(i);
      Panel& p = panels_[i % 2];
      move(copies, host.rows(begin, end), p.state.rows(0, end - begin));
      p.arrived.record(copies);
    };
    if (count > 0) fetch(0);
    for (std::int64_t i = 0; i < count; ++i) {
      // The other panel's last content went back on the stream of copies before: nothing to wait for.
      if (i + 1 < count) fetch(i + 1);
      const auto [begin, end] = range(i);
      Panel& p = panels_[i % 2];
      p.arrived.wait(stream);
      compute(begin, end, p.state.rows(0, end - begin));
      p.computed.record(stream);
      p.computed.wait(copies);
      if (back == Back::yes) move(copies, p.state.rows(0, end - begin), host.rows(begin, end));
    }
    ended_.record(copies);  // who waits for the stream finds the state
    ended_.wait(stream);
  }

 private:
  struct Panel {
    OptimizerState state;
    Event arrived, computed;
  };
  /// A device has one of its own for them, so that they go on beside the work.
  Stream stream_of_copies(const Stream& stream) {
    if (!stream.device()) return stream;
    if (!copies_) copies_ = stream.device()->runtime().make_stream();
    return Stream(*copies_, stream.pool());
  }
  static void move(const Stream& stream, const OptimizerState& from, const OptimizerState& to) {
    copy(stream, from.master, to.master);
    if (from.exp_avg && to.exp_avg) copy(stream, from.exp_avg, to.exp_avg);
    if (from.exp_avg_sq && to.exp_avg_sq) copy(stream, from.exp_avg_sq, to.exp_avg_sq);
  }
  std::int64_t elements_;
  Panel panels_[2];
  Event begun_, ended_;
  std::unique_ptr<DeviceStream> copies_;
};

}  // namespace fourmi
