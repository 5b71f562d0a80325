// Where the time of a step goes. A rank's timeline is carried by its Stream; a Span says what the code between its
// construction and its end is about. Without a timeline a span costs one branch.
//
// Time is counted once: a span's own time is its duration less that of the spans inside it, so the kinds of work add up
// to the step, and what no span names is Work::other. Spans nest; only the thread that began the step may record (spans
// of other threads do nothing). Nothing is allocated after construction; with a device's clock, after the first steps.
//
// With a device work is given, and done later: then a span is from where its stream has done what was given before the
// span to where it has done what was given inside, and times are known at the step's end.
#pragma once

#include <pthread.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "kernels/runtime/device.h"

namespace fourmi {

/// What a step's time is spent on.
enum class Work : std::uint8_t {
  other,  ///< what no span names
  data,   ///< making a micro-batch
  embedding,
  norm,
  projections,   ///< attention's matrices, and matrices that nothing else claims
  attention,     ///< scores, softmax, sums of values; rotary and assembly of heads
  feed_forward,  ///< dense MLPs and shared experts
  router,
  dispatch,  ///< rows to experts' order
  experts,
  combine,    ///< rows back to tokens
  quantise,   ///< elements of eight bits and their scales, where no other operation makes them
  head,       ///< last norm, vocabulary, loss
  optimizer,  ///< norm of the gradient, update
  reduce,     ///< gradients to their owners, with the wait for slower ranks
  gather,     ///< weights to all, with the wait
  pipeline,   ///< the wait for other stages
  exchange,   ///< rows between the ranks that cut a layer, with the wait
  evaluate,
  save,  ///< what a step waits for a checkpoint
};
constexpr std::size_t num_works = 20;
std::string_view name_of(Work work);

/// A span that was recorded for a trace. Times are nanoseconds of the steady clock.
struct SpanRecord {
  const char* name = nullptr;
  std::int64_t begin = 0, end = 0;  ///< end 0: not ended yet
  std::int32_t layer = -1;          ///< -1: of no layer
  std::int16_t depth = 0;           ///< 0: the outermost
  Work work = Work::other;
};

/// Hears of every span as it opens and closes, in the thread that opens it: a profiler's ranges. Lives for ever.
class SpanObserver {
 public:
  virtual ~SpanObserver() = default;
  virtual void opened(Work work, const char* name, std::int32_t layer) = 0;  ///< layer -1: of no layer
  virtual void closed() = 0;                                                 ///< the one that opened last
};

class Timeline {
 public:
  /// Keeps at most `most_records` spans for a trace (the newest); 0: none.
  explicit Timeline(std::size_t most_records = 0) : records_(most_records) {}
  /// Times from here on are the device's, if it has a clock, and its profiler hears of spans. Between steps. The stream
  /// outlives this.
  void follow(DeviceStream& stream) {
    use(stream.make_clock());
    tell(stream.runtime().span_observer());
  }
  void use(std::unique_ptr<DeviceClock> clock) { clock_ = std::move(clock); }  ///< null: times are the host's
  /// `observer` hears of the spans that open from here on; null: nobody does, at the price of a branch.
  void tell(SpanObserver* observer) { observer_ = observer; }

  /// The step's own span: times by kind count from here. `record`: keep its spans for a trace, and forget older ones.
  void begin_step(bool record = false);
  /// Ends it. Spans between two steps (evaluate, save) count until the next begin_step().
  void end_step();

  using Nanoseconds = std::array<std::int64_t, num_works>;
  /// By kind since begin_step().
  const Nanoseconds& nanoseconds() const { return own_; }
  /// By kind since construction, with what was between steps. With a device's clock the host waits.
  const Nanoseconds& total() {
    settle();
    return total_;
  }
  /// Duration of the last step; equals the sum of nanoseconds() when asked right after end_step().
  std::int64_t step_nanoseconds() const { return step_; }

  /// The recorded spans, parents before children, in order of their beginning.
  void visit(const std::function<void(const SpanRecord&)>& visit) const;
  /// Spans that were forgotten because there was no room.
  std::size_t num_forgotten() const { return count_ > records_.size() ? count_ - records_.size() : 0; }

  /// For Span. `owns`: spans inside count as this kind, too.
  bool open(Work work, const char* name, std::int32_t layer, bool owns);
  void close();

 private:
  struct Frame {
    std::int64_t begin;  ///< with a clock its mark
    std::size_t record;
    SpanObserver* told;  ///< who heard of its beginning, and so of its end
    std::int32_t layer;
    Work work;
    bool owns;
  };
  /// A span that has ended, as points of the device's clock.
  struct Ended {
    std::int32_t begin, end;
    std::size_t record;
    Work work, outer;
    bool is_step, has_outer, is_recorded, of_step_before = false;
  };
  std::int64_t now() { return clock_ ? clock_->mark() : host_now(); }
  static std::int64_t host_now();
  /// What took so long is no time of the span around it.
  void count(const Ended& span, std::int64_t begin, std::int64_t end);
  /// With a clock: spans that have ended get their times.
  void settle();
  static constexpr std::size_t most_depth = 32;

  Nanoseconds own_{}, total_{};
  std::array<Frame, most_depth> frames_{};
  std::size_t depth_ = 0;
  std::size_t owners_ = 0;  ///< frames that own what is inside
  std::int64_t step_ = 0;
  std::vector<SpanRecord> records_;  ///< a ring
  std::size_t count_ = 0;
  bool recording_ = false, in_step_ = false;
  std::unique_ptr<DeviceClock> clock_;
  SpanObserver* observer_ = nullptr;
  std::vector<Ended> ended_;  ///< whose times are not known yet
  pthread_t thread_ = pthread_self();
};

/// From here to the end of the block is `work`. `name` must live for ever: a literal.
class [[nodiscard]] Span {
 public:
  Span(Timeline* timeline, Work work, const char* name, std::int64_t layer = -1)
      : timeline_(timeline && timeline->open(work, name, static_cast<std::int32_t>(layer), false) ? timeline
                                                                                                  : nullptr) {}
  ~Span() {
    if (timeline_) timeline_->close();
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 protected:
  struct Owns {};
  Span(Timeline* timeline, Work work, const char* name, std::int64_t layer, Owns)
      : timeline_(timeline && timeline->open(work, name, static_cast<std::int32_t>(layer), true) ? timeline : nullptr) {
  }

 private:
  Timeline* timeline_;
};

/// As Span; and the spans inside count as `work` as well: a matrix product inside the head is head.
class [[nodiscard]] OwningSpan : public Span {
 public:
  OwningSpan(Timeline* timeline, Work work, const char* name, std::int64_t layer = -1)
      : Span(timeline, work, name, layer, Owns{}) {}
};

}  // namespace fourmi
