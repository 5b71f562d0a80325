#include "parallel/order/order_check.h"

#include <algorithm>
#include <string_view>

#include "kernels/runtime/error.h"
#include "parallel/group.h"

namespace fourmi {

namespace {

std::int64_t bytes_of(const Group& group, Call call) {
  return group.traffic()[static_cast<std::size_t>(call)].bytes;
}

}  // namespace

OrderCheck::OrderCheck(const OrderGroups& groups, Group& world) : groups_(groups), world_(world) {
  for (std::vector<std::size_t>* places : {&last_, &next_}) places->reserve(64);  // a steady step allocates nothing
  world.calls()->observe(this);
}

OrderCheck::~OrderCheck() {
  world_.calls()->observe(nullptr);
}

void OrderCheck::begin_step(const StepOrder& order) {
  order_ = &order;
  last_group_ = nullptr;
  num_calls_ = 0;
  last_.clear(), next_.clear();
  may_end_ = false;
  add_reachable(0);
}

void OrderCheck::add_reachable(std::size_t at) {
  const std::vector<OrderedCall>& calls = order_->calls();
  for (;; ++at) {
    if (at == calls.size()) {
      may_end_ = true;
      return;
    }
    const OrderedCall& c = calls[at];
    if (c.is_observed()) {
      if (std::find(next_.begin(), next_.end(), at) == next_.end()) next_.push_back(at);
      return;
    }
    if (c.kind == OrderedCall::Kind::jump) at = static_cast<std::size_t>(c.to) - 1;
    // A choice back to where a repeated part begins has a call in between, so this ends.
    if (c.kind == OrderedCall::Kind::choice) add_reachable(static_cast<std::size_t>(c.to));
  }
}

GroupKind OrderCheck::kind_of(const Group& group) const {
  if (&group == &world_) return GroupKind::world;
  const std::string_view name = group.name();
  for (std::size_t k = 0; k < num_group_kinds; ++k)
    if (name == name_of(static_cast<GroupKind>(k))) return static_cast<GroupKind>(k);
  // Hierarchical dispatch calls its groups after the one that it is made for, which may be the world.
  for (GroupKind kind : {GroupKind::expert_across, GroupKind::expert_inside}) {
    const std::string_view own = name_of(kind), suffix = own.substr(own.find('.'));
    if (name.size() > suffix.size() && name.substr(name.size() - suffix.size()) == suffix) return kind;
  }
  refuse(fmt::format("{} of {}, a group that the order of a step does not have", name_of(last_call_), name));
}

void OrderCheck::check_bytes() {
  if (last_group_ == nullptr) return;
  const std::int64_t sent = bytes_of(*last_group_, last_call_) - bytes_before_;
  const auto is_wrong = [&](std::size_t at) {
    const std::int64_t bytes = order_->calls()[at].bytes;
    return bytes != StepOrder::routed && bytes != sent;
  };
  const std::int64_t expected = order_->calls()[last_.front()].bytes;
  std::erase_if(last_, is_wrong);
  if (last_.empty()) refuse(fmt::format("call {} sent {} bytes, expected {}", num_calls_, sent, expected));
}

/// From the places that the last call may have had to those that may come.
void OrderCheck::look_ahead() {
  if (last_group_ == nullptr) return;
  check_bytes();
  next_.clear();
  may_end_ = false;
  for (std::size_t at : last_) add_reachable(at + 1);
}

void OrderCheck::called(const Group& group, Call call) {
  if (order_ == nullptr) return;
  look_ahead();
  const GroupKind kind = kind_of(group);
  last_.clear();
  for (std::size_t at : next_)
    if (const OrderedCall& c = order_->calls()[at]; c.group == kind && c.call == call) last_.push_back(at);
  if (last_.empty())
    refuse(fmt::format("{} of {}", name_of(call), groups_.text(groups_.group_of(world_.rank(), kind))));
  past_[static_cast<std::size_t>(num_calls_++) % past_.size()] = {kind, call};
  last_group_ = &group, last_call_ = call, bytes_before_ = bytes_of(group, call);
}

void OrderCheck::end_step() {
  if (order_ == nullptr) return;
  look_ahead();
  if (!may_end_) refuse("the end of the step");
  order_ = nullptr;
}

std::string OrderCheck::done_text() const {
  std::string text;
  const auto n = static_cast<std::size_t>(num_calls_);
  for (std::size_t i = n - std::min(n, past_.size()); i < n; ++i) {
    const Past& p = past_[i % past_.size()];
    text += fmt::format("{}{} of {}", text.empty() ? "" : ", ", name_of(p.call), name_of(p.group));
  }
  return text.empty() ? "nothing" : text;
}

std::string OrderCheck::expected_text() const {
  std::string text;
  for (std::size_t at : next_) {
    if (!text.empty()) text += "; or ";
    int shown = 0;
    for (std::size_t i = at; i < order_->calls().size() && shown < 4; ++i)
      if (const OrderedCall& c = order_->calls()[i]; c.is_observed())
        text += (shown++ == 0 ? "" : ", then ") + to_string(c, groups_, world_.rank());
  }
  if (may_end_) text += text.empty() ? "the end of the step" : "; or the end of the step";
  return text;
}

void OrderCheck::refuse(const std::string& cause) const {
  throw Error(ExitStatus::bug, fmt::format("rank {}, call {} of the step", world_.rank(), num_calls_ + 1),
              fmt::format("found {}, expected {} (done before: {})", cause, expected_text(), done_text()),
              "This is a bug of fourmi: please report it with the recipe and the number of ranks");
}

}  // namespace fourmi
