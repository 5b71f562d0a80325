#include "parallel/order/prove_step.h"

#include <map>
#include <tuple>

#include "kernels/runtime/error.h"

namespace fourmi {

namespace {

std::size_t index(int i) {
  return static_cast<std::size_t>(i);
}

/// All ranks at once, each as far as it gets.
class Walk {
 public:
  /// `others`: at each choice the second way is taken, once.
  Walk(const OrderGroups& groups, const std::function<const StepOrder&(int)>& order_of, bool others)
      : groups_(groups), others_(others), made_(index(groups.num_groups())), at_(index(groups.num_ranks())) {
    for (int r = 0; r < groups.num_ranks(); ++r) {
      const StepOrder& order = order_of(r);
      orders_.push_back(&order);
      at_[index(r)].turned.resize(others ? order.calls().size() : 0);
      at_[index(r)].num_made.resize(index(groups.num_groups()));
    }
  }

  void run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (int r = 0; r < groups_.num_ranks(); ++r)
        while (advance(r)) moved = true;
    }
    std::string waiting;
    int more = 0;
    for (int r = 0; r < groups_.num_ranks(); ++r) {
      if (is_done(r)) continue;
      if (more++ < 8) waiting += "; " + state_of(r);
    }
    FOURMI_CHECK(more == 0, "{} of {} ranks wait for one another{}", more, groups_.num_ranks(), waiting);
    for (const auto& [key, ends] : messages_)
      FOURMI_CHECK(ends.sent == ends.posted, "{} messages from rank {} to rank {} of {} with tag {}, {} receives",
                   ends.sent, std::get<1>(key), std::get<2>(key), groups_.text(std::get<0>(key)), std::get<3>(key),
                   ends.posted);
  }

 private:
  struct Place {
    std::size_t next = 0;
    bool arrived = false;  // at the call `next`, which others have not come to
    std::vector<bool> turned;
    std::vector<std::size_t> num_made;  // calls of each group
  };
  struct Ends {
    int sent = 0, posted = 0, sent_done = 0, posted_done = 0;
  };
  using Key = std::tuple<int, int, int, int>;  // group, from, to, tag
  /// The calls of a group so far: what, and how many members have come to it.
  struct Made {
    std::vector<Call> calls;
    std::vector<int> arrived, first;  // first: the rank that came first
  };

  const OrderedCall& call_of(int r) const { return orders_[index(r)]->calls()[at_[index(r)].next]; }
  bool is_done(int r) const { return at_[index(r)].next == orders_[index(r)]->calls().size(); }

  Key key_of(int r, const OrderedCall& c) const {
    const int group = groups_.group_of(r, c.group);
    const std::vector<int>& members = groups_.members(group);
    const int other = members[index(c.place_of_peer(groups_.place(r, c.group), static_cast<int>(members.size())))];
    const bool sends = c.call == Call::send;
    return {group, sends ? r : other, sends ? other : r, c.tag};
  }

  /// Does the next call of a rank; false where it has to wait, or has none.
  bool advance(int r) {
    if (is_done(r)) return false;
    Place& at = at_[index(r)];
    const OrderedCall& c = call_of(r);
    switch (c.kind) {
      case OrderedCall::Kind::choice: {
        const bool turn = others_ && !at.turned[at.next];
        if (turn) at.turned[at.next] = true;
        at.next = turn ? index(c.to) : at.next + 1;
        return true;
      }
      case OrderedCall::Kind::jump:
        at.next = index(c.to);
        return true;
      case OrderedCall::Kind::send:
        ++messages_[key_of(r, c)].sent;
        break;
      case OrderedCall::Kind::receive:
        ++messages_[key_of(r, c)].posted;
        break;
      case OrderedCall::Kind::wait_send: {
        Ends& ends = messages_[key_of(r, c)];
        if (ends.posted <= ends.sent_done) return false;
        ++ends.sent_done;
        break;
      }
      case OrderedCall::Kind::wait_receive: {
        Ends& ends = messages_[key_of(r, c)];
        if (ends.sent <= ends.posted_done) return false;
        ++ends.posted_done;
        break;
      }
      case OrderedCall::Kind::call:
        if (!meet(r, c)) return false;
        break;
    }
    ++at.next;
    return true;
  }

  /// Has everybody come to this call?
  bool meet(int r, const OrderedCall& c) {
    Place& at = at_[index(r)];
    const int group = groups_.group_of(r, c.group);
    Made& made = made_[index(group)];
    const std::size_t number = at.num_made[index(group)];
    if (!at.arrived) {
      if (number == made.calls.size()) {
        made.calls.push_back(c.call), made.arrived.push_back(0), made.first.push_back(r);
      } else {
        FOURMI_CHECK(made.calls[number] == c.call, "call {} of {} is {} on rank {} and {} on rank {}; {}; {}",
                     number + 1, groups_.text(group), name_of(made.calls[number]), made.first[number], name_of(c.call),
                     r, state_of(made.first[number]), state_of(r));
      }
      ++made.arrived[number];
      at.arrived = true;
    }
    if (made.arrived[number] < static_cast<int>(groups_.members(group).size())) return false;
    ++at.num_made[index(group)];
    at.arrived = false;
    return true;
  }

  /// What a rank does next, in a few calls.
  std::string state_of(int r) const {
    const StepOrder& order = *orders_[index(r)];
    const std::size_t next = at_[index(r)].next;
    std::string text = fmt::format("rank {} (call {} of {})", r, next + 1, order.calls().size());
    int shown = 0;
    for (std::size_t i = next; i < order.calls().size() && shown < 3; ++i) {
      const OrderedCall& c = order.calls()[i];
      if (c.kind == OrderedCall::Kind::choice || c.kind == OrderedCall::Kind::jump) continue;
      text += (shown++ == 0 ? ": " : ", then ") + to_string(c, groups_, r);
    }
    return text;
  }
  const OrderGroups& groups_;
  bool others_;
  std::vector<const StepOrder*> orders_;
  std::vector<Made> made_;  // by group
  std::vector<Place> at_;   // by rank
  std::map<Key, Ends> messages_;
};

}  // namespace

void prove_step(const OrderGroups& groups, const std::function<const StepOrder&(int)>& order_of) {
  for (bool others : {false, true}) Walk(groups, order_of, others).run();
}

}  // namespace fourmi
