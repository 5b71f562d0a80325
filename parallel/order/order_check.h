// Holds what a rank calls against its step's order, call by call, before the call is made: a mismatch is an error that
// shows what was called, what the order says, and what was done before, instead of ranks that wait for one another.
#pragma once

#include <array>
#include <vector>

#include "parallel/order/step_order.h"

namespace fourmi {

class OrderCheck : public CallObserver {
 public:
  /// Sees the calls of `world` and of all groups made of it, until it is destroyed. Both outlive it.
  OrderCheck(const OrderGroups& groups, Group& world);
  ~OrderCheck() override;
  OrderCheck(const OrderCheck&) = delete;
  OrderCheck& operator=(const OrderCheck&) = delete;

  /// From here on calls are expected in this order, which outlives the step.
  void begin_step(const StepOrder& order);
  /// Throws Error(bug) where the order says more.
  void end_step();
  /// The step goes its own way from here on: something is wrong with its numbers, and ranks look for it.
  void leave_step() { order_ = nullptr; }

  /// Throws Error(bug) for a call that the order does not have here.
  void called(const Group& group, Call call) override;

 private:
  /// The calls that may come when the one before `at` has been made.
  void add_reachable(std::size_t at);
  void look_ahead();
  /// Of the last call: as many bytes as the order says?
  void check_bytes();
  GroupKind kind_of(const Group& group) const;
  [[noreturn]] void refuse(const std::string& cause) const;
  std::string done_text() const;
  std::string expected_text() const;

  const OrderGroups& groups_;
  Group& world_;
  const StepOrder* order_ = nullptr;
  // The router's choices are not known here, so there may be several places; all agree with what was called so far.
  std::vector<std::size_t> last_, next_;
  bool may_end_ = false;
  const Group* last_group_ = nullptr;
  Call last_call_ = Call::none;
  std::int64_t bytes_before_ = 0;
  std::int64_t num_calls_ = 0;
  struct Past {
    GroupKind group;
    Call call;
  };
  std::array<Past, 4> past_{};
};

}  // namespace fourmi
