// What one rank calls in a step, in order, over all of its groups: known before the first step, so that it can be
// proven to end (prove_step.h), added up (framework/train/traffic.h), and held against what is called (order_check.h).
//
// Calls that the router's choices decide are written down as choices: something once or several times, this or that.
// All members of the groups concerned choose alike, since they choose by what all of them have been told.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "parallel/calls.h"
#include "parallel/order/order_groups.h"

namespace fourmi {

struct OrderedCall {
  enum class Kind : std::uint8_t {
    call,          ///< of all members
    send,          ///< started
    receive,       ///< started
    wait_send,     ///< until the other has posted its receive
    wait_receive,  ///< until the other has sent
    choice,        ///< goes on behind it, or at `to`
    jump           ///< goes on at `to`
  };
  Kind kind = Kind::call;
  GroupKind group = GroupKind::world;
  Call call = Call::none;
  int peer = 0, tag = 0;    ///< of messages: the place of the other one in the group
  bool around = false;      ///< peer counts from this rank's own place, around the group
  std::int64_t bytes = -1;  ///< that leave this rank; StepOrder::routed where the router decides
  int to = -1;
  /// The other one's place, of a rank at `place` in a group of `size`.
  int place_of_peer(int place, int size) const { return around ? (place + peer + size) % size : peer; }
  bool is_observed() const { return kind == Kind::call || kind == Kind::send || kind == Kind::receive; }
};

class StepOrder {
 public:
  static constexpr std::int64_t routed = -1;
  /// Of one rank; `groups` outlives it. A group of one calls nothing.
  StepOrder(const OrderGroups& groups, int rank) : groups_(&groups), rank_(rank) {}

  int size(GroupKind group) const { return groups_->size(rank_, group); }
  int place(GroupKind group) const { return groups_->place(rank_, group); }

  /// The other end of messages with one tag.
  struct Peer {
    GroupKind group;
    int place;
    int tag;
    bool around = false;  ///< place counts from this rank's own
  };
  void call(GroupKind group, Call call, std::int64_t bytes);
  void send(const Peer& to, std::int64_t bytes);
  void receive(const Peer& from);
  void wait_send(const Peer& to);
  void wait_receive(const Peer& from);

  /// What `first` adds, or what `second` does. The first one is what mostly happens.
  template <class First, class Second>
  void either(const First& first, const Second& second) {
    const std::size_t choice = add({.kind = OrderedCall::Kind::choice});
    first();
    const std::size_t jump = add({.kind = OrderedCall::Kind::jump});
    calls_[choice].to = end();
    second();
    calls_[jump].to = end();
  }
  /// What `first` adds, or nothing.
  template <class First>
  void maybe(const First& first) {
    either(first, [] {});
  }
  /// Nothing, or, seldom, what `second` adds.
  template <class Second>
  void maybe_not(const Second& second) {
    either([] {}, second);
  }
  /// Once, or several times in a row.
  template <class Body>
  void repeated(const Body& body) {
    const int begin = end();
    body();
    calls_[add({.kind = OrderedCall::Kind::choice})].to = begin;
  }

  const std::vector<OrderedCall>& calls() const { return calls_; }
  const OrderGroups& groups() const { return *groups_; }
  int rank() const { return rank_; }
  /// Visits what mostly happens: every call, send and receive of it.
  template <class Visit>
  void visit(const Visit& visit) const {
    for (int at = 0; at < end();) {
      const OrderedCall& c = calls_[static_cast<std::size_t>(at)];
      at = c.kind == OrderedCall::Kind::jump ? c.to : at + 1;
      if (c.is_observed()) visit(c);
    }
  }

 private:
  int end() const { return static_cast<int>(calls_.size()); }
  std::size_t add(OrderedCall call) {
    calls_.push_back(call);
    return calls_.size() - 1;
  }
  void add_message(OrderedCall::Kind kind, Call call, const Peer& peer, std::int64_t bytes = 0);

  const OrderGroups* groups_;
  int rank_;
  std::vector<OrderedCall> calls_;
};

/// "all_gather of tensor (ranks 0, 1)", "send to rank 3 with tag 5 of pipeline (ranks ...)": as `rank` makes it.
std::string to_string(const OrderedCall& call, const OrderGroups& groups, int rank);

}  // namespace fourmi
