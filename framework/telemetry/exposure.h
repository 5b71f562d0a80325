// Exposed communication: how long a rank does nothing but wait for data of other ranks or carry them itself, by what
// they are for; and the flights of those data, for a trace's lanes.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/runtime/timeline.h"
#include "parallel/call_timer.h"
#include "parallel/groups.h"

namespace fourmi {

/// What data are for that move between ranks.
enum class Wait : std::uint8_t {
  dispatch,  ///< rows on their way to experts
  combine,   ///< and back
  pipeline,  ///< outputs and gradients of other stages
  tensor,    ///< rows and columns of those that share a layer
  context,   ///< keys and values of those that share a sequence
  data,      ///< gradients to their owners, weights to all
  other,     ///< what all ranks agree on
};
inline constexpr std::size_t num_waits = 7;
std::string_view name_of(Wait wait);
using Waits = std::array<std::int64_t, num_waits>;  ///< nanoseconds

/// Puts a rank's calls beside its timeline. What a call is for is known from the innermost span that makes it, else
/// from its group: a group of all ranks is the world, whichever axis it stands for.
class CallLanes : public CallTimer, public SpanObserver {
 public:
  /// Collective. Hears of the calls of all `groups` and of the spans of `timeline` until it is destroyed, as who did
  /// before goes on to; all outlive it. Keeps up to so many waits and half as many flights of a recorded step: the
  /// first ones.
  CallLanes(const RankGroups& groups, Timeline& timeline, std::size_t most_records);
  ~CallLanes() override;
  CallLanes(const CallLanes&) = delete;
  CallLanes& operator=(const CallLanes&) = delete;
  /// Times are the device's from here on, and its profiler hears of spans; as Timeline has it.
  void follow(DeviceStream& stream);
  void use(std::unique_ptr<DeviceClock> clock) { clock_ = std::move(clock); }

  /// Around a step, inside the timeline's.
  void begin_step(bool record);
  void end_step();
  /// Of the last step. A wait inside another one is part of it.
  const Waits& waits() const { return waits_; }

  struct WaitRecord {
    std::int64_t begin = 0, end = -1;  ///< nanoseconds of the steady clock
    Wait wait = Wait::other;
    Call call = Call::none;
  };
  /// From where something was asked for to where it was waited for; the rank may do other things.
  struct Flight {
    std::int64_t begin = 0, end = -1;
    Call call = Call::none;
    int group = -1;           ///< as the notes number them
    int peer = -1;            ///< of a message: the other rank in the group; -1: all of it
    std::int64_t number = 0;  ///< of a message its tag, else which of the group's collectives
    std::int64_t bytes = 0;   ///< that leave this rank or come to it, whichever is more
  };
  /// Of the newest recorded step, in the order in which they began; what had not ended when it did is left out.
  void visit_waits(const std::function<void(const WaitRecord&)>& visit) const;
  void visit_flights(const std::function<void(const Flight&)>& visit) const;
  std::size_t num_forgotten() const { return forgotten_; }

  struct Label {
    std::string name;
    std::vector<int> ranks;  ///< the world's, by their place in the group
  };
  const Label& label(const Flight& flight) const;
  int rank() const { return world_.rank(); }

  void called(const Group& group, Call call) override;
  std::int32_t started(std::uint64_t call, int peer, int tag, std::int64_t bytes) override;
  void ended(std::int32_t number) override;
  void entered(std::uint64_t call) override;
  void left() override;
  std::uint64_t last() const override { return last_; }
  void opened(Work work, const char* name, std::int32_t layer) override;
  void closed() override;

 private:
  struct Known {
    Wait wait = Wait::other;
    bool is_world = false, is_known = false;
    std::size_t label = 0;
  };
  std::int64_t now();
  Wait wait_of(int group) const;
  Known know(const Group& group) const;
  bool is_on() const { return in_step_ && pthread_equal(thread_, pthread_self()); }

  Timeline& timeline_;
  Group& world_;
  CallObserver* next_observer_;
  SpanObserver* next_spans_ = nullptr;
  std::vector<Label> labels_;  // the first one is of groups that the mesh does not have
  std::vector<Wait> wait_of_label_;
  std::vector<Known> known_;  // by the notes' numbers of groups; a group is known by its first call
  const Group* called_ = nullptr;
  Wait world_layer_ = Wait::other;  // what the world stands for inside a layer

  std::unique_ptr<DeviceClock> clock_;
  pthread_t thread_ = pthread_self();
  bool in_step_ = false, recording_ = false;
  std::vector<Work> works_;  // of the open spans
  int nested_ = 0;
  WaitRecord wait_;  // the outermost open one
  Waits waits_{};
  std::uint64_t last_ = 0;
  std::vector<WaitRecord> marked_;  // with a clock: the step's, as its points
  std::vector<WaitRecord> records_;
  std::vector<Flight> flights_;
  std::size_t most_records_, forgotten_ = 0;
};

/// "exposed_pipeline": seconds of one step, to the microsecond, and "exposed_communication", their sum; kinds that took
/// none are left out.
std::vector<std::pair<std::string, double>> exposure_figures(const Waits& step);

}  // namespace fourmi
