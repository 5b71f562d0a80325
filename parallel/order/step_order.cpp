#include "parallel/order/step_order.h"

#include <fmt/format.h>

namespace fourmi {

void StepOrder::call(GroupKind group, Call call, std::int64_t bytes) {
  if (size(group) == 1) return;
  add({.kind = OrderedCall::Kind::call, .group = groups_->kind_of(rank_, group), .call = call, .bytes = bytes});
}

void StepOrder::add_message(OrderedCall::Kind kind, Call call, const Peer& peer, std::int64_t bytes) {
  add({.kind = kind,
       .group = groups_->kind_of(rank_, peer.group),
       .call = call,
       .peer = peer.place,
       .tag = peer.tag,
       .around = peer.around,
       .bytes = bytes});
}

void StepOrder::send(const Peer& to, std::int64_t bytes) {
  add_message(OrderedCall::Kind::send, Call::send, to, bytes);
}
void StepOrder::receive(const Peer& from) {
  add_message(OrderedCall::Kind::receive, Call::receive, from);
}
void StepOrder::wait_send(const Peer& to) {
  add_message(OrderedCall::Kind::wait_send, Call::send, to);
}
void StepOrder::wait_receive(const Peer& from) {
  add_message(OrderedCall::Kind::wait_receive, Call::receive, from);
}

std::string to_string(const OrderedCall& c, const OrderGroups& groups, int rank) {
  const int group = groups.group_of(rank, c.group);
  const std::string of = groups.text(group);
  if (c.kind == OrderedCall::Kind::call) return fmt::format("{} of {}", name_of(c.call), of);
  const std::vector<int>& members = groups.members(group);
  const int other = c.place_of_peer(groups.place(rank, c.group), static_cast<int>(members.size()));
  const bool waits = c.kind == OrderedCall::Kind::wait_send || c.kind == OrderedCall::Kind::wait_receive;
  return fmt::format("{}{} {} rank {} with tag {} of {}", waits ? "wait for the " : "", name_of(c.call),
                     c.call == Call::send ? "to" : "from", members[static_cast<std::size_t>(other)], c.tag, of);
}

}  // namespace fourmi
