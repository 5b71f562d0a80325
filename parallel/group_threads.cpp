// Ranks that are threads of this process. A message is one copy from the sender's buffer to the receiver's, made by the
// rank that comes second, outside the lock. Of a device's memory that rank has the device make the copy, on a stream of
// its own behind both ranks' work; both ranks' streams wait for it when their requests are waited for.
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include "kernels/runtime/error.h"
#include "parallel/meeting.h"
#include "parallel/moving_group.h"
#include "parallel/poison.h"

namespace fourmi {
namespace {

/// What a rank's moves of device memory need.
struct Lane {
  DeviceStream* work;    ///< the rank's
  DeviceStream* copies;  ///< for the copies that it makes
};

struct Op {
  enum class State { open, copying, done, mismatch } state = State::open;
  Move move;
  int owner = 0;
  Lane* lane = nullptr;                           ///< null: memory of the host
  DeviceEvent *ready = nullptr, *done = nullptr;  ///< of the owner: its work before the move; the move
  Op* next = nullptr;                             ///< the operation behind it in its queue
};

/// Operations that wait for their other end, oldest first. They are linked through themselves: which side comes first,
/// and how many wait, depends on the ranks' speed, so a container would take memory at any step of a run.
class Queue {
 public:
  bool empty() const { return first_ == nullptr; }
  void push(Op* op) {
    op->next = nullptr;
    Op** end = &first_;
    while (*end) end = &(*end)->next;  // a few at most
    *end = op;
  }
  Op* pop() { return std::exchange(first_, first_->next); }
  void erase(const Op* op) {
    for (Op** at = &first_; *at; at = &(*at)->next)
      if (*at == op) {
        *at = op->next;
        return;
      }
  }

 private:
  Op* first_ = nullptr;
};

/// The moves of one request. Its rank's group keeps it and uses it again, so that a steady step allocates nothing;
/// other ranks see the operations through the hub's queues, which hold none once finish() has returned or thrown.
struct Transfer {
  std::vector<Op> ops;
  std::unique_ptr<DeviceEvent> ready;
  std::vector<std::unique_ptr<DeviceEvent>> done;  // one an operation
  bool in_use = false;
};

/// From the one operation's memory to the other's; `second` belongs to the thread that calls this.
void carry(const Op& second, const Op& first) {
  const bool sends = second.move.kind == Move::Kind::send;
  const Move &from = (sends ? second : first).move, &to = (sends ? first : second).move;
  if (from.size == 0) return;
  if (!second.lane) {
    std::memcpy(to.data, from.data, from.size);
    return;
  }
  DeviceStream& copies = *second.lane->copies;
  first.ready->wait(copies);
  second.ready->wait(copies);
  copies.copy(to.data, from.data, static_cast<std::int64_t>(from.size));
  first.done->record(copies);
  second.done->record(copies);
}

// What the members share.
struct Hub {
  Hub(int num_members, std::shared_ptr<Hub> made_of)
      : poison(std::make_shared<Poison>(made_of ? made_of->poison : nullptr)),
        parent(std::move(made_of)),
        changed(static_cast<std::size_t>(num_members)) {}

  using Key = std::tuple<int, int, int>;  // from, to, tag
  struct Queues {
    Queue sends, receives;
  };
  struct Child {
    std::shared_ptr<Hub> hub;
    int arrived = 0;
  };

  std::shared_ptr<Poison> poison;
  const std::shared_ptr<Hub> parent;  // of a subgroup
  std::mutex mutex;
  std::vector<std::condition_variable> changed;  // one a member
  std::map<Key, Queues> queues;
  struct Met {
    std::shared_ptr<Meeting> meeting;
    int arrived = 0;
  };
  std::map<int, Met> meetings;           // that some members have not come to yet
  std::map<std::string, Child> forming;  // subgroups that some members have not reached yet
  std::vector<std::weak_ptr<Hub>> children;

  std::condition_variable& of(int rank) { return changed[static_cast<std::size_t>(rank)]; }

  void start(Op* op) {
    const bool sends = op->move.kind == Move::Kind::send;
    const Key key = sends ? Key{op->owner, op->move.peer, op->move.tag} : Key{op->move.peer, op->owner, op->move.tag};
    Op* other = nullptr;
    {
      std::lock_guard lock(mutex);
      Queues& q = queues[key];
      auto &waiting = sends ? q.receives : q.sends, &mine = sends ? q.sends : q.receives;
      if (waiting.empty()) {
        mine.push(op);
        return;
      }
      other = waiting.pop();
      other->state = op->state = Op::State::copying;
    }
    const auto end = [&](Op::State state) {
      std::lock_guard lock(mutex);
      other->state = op->state = state;
      of(other->owner).notify_all();
    };
    if (op->move.size != other->move.size || bool(op->lane) != bool(other->lane)) return end(Op::State::mismatch);
    try {
      carry(*op, *other);
    } catch (const Error&) {
      cancel("a copy between two ranks failed");
      end(Op::State::mismatch);
      throw;
    }
    end(Op::State::done);
  }

  // A copy in progress is waited for even when poisoned: the buffers may go when this returns or throws.
  void finish(std::span<Op> ops, int rank, const std::string& group) {
    std::unique_lock lock(mutex);
    for (Op& op : ops) {
      of(rank).wait(lock,
                    [&] { return op.state >= Op::State::done || (op.state == Op::State::open && poison->is_set()); });
      if (op.state == Op::State::open) forget(&op);
    }
    poison->check(group);
    for (const Op& op : ops)
      FOURMI_CHECK(op.state == Op::State::done,
                   "{}: a message of another size, or in other memory, than the receive of {} bytes", group,
                   op.move.size);
  }

  void forget(Op* op) {
    for (auto& [key, q] : queues) {
      q.sends.erase(op);
      q.receives.erase(op);
    }
  }

  void cancel(const std::string& reason) {
    poison->set(reason);
    wake();
  }

  void wake() {
    std::vector<std::shared_ptr<Hub>> below;
    {
      std::lock_guard lock(mutex);
      for (auto& c : changed) c.notify_all();
      for (auto& c : children)
        if (auto hub = c.lock()) below.push_back(std::move(hub));
    }
    for (auto& hub : below) hub->wake();
  }
};

class ThreadGroup final : public MovingGroup {
 public:
  ThreadGroup(std::string name, int rank, int size, std::shared_ptr<Hub> hub)
      : MovingGroup(std::move(name), rank, size), hub_(std::move(hub)) {}

  std::unique_ptr<Group> subgroup(std::string name, std::span<const int> ranks) override {
    std::string key = name;
    int my_rank = -1;
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      key += fmt::format(",{}", ranks[i]);
      if (ranks[i] == rank_) my_rank = static_cast<int>(i);
    }
    FOURMI_CHECK(my_rank >= 0, "{}: rank {} is no member", name, rank_);
    key += fmt::format("#{}", made_[key]++);  // the same members may make such a group again
    std::lock_guard lock(hub_->mutex);
    Hub::Child& child = hub_->forming[key];
    if (!child.hub) {
      child.hub = std::make_shared<Hub>(static_cast<int>(ranks.size()), hub_);
      hub_->children.push_back(child.hub);
    }
    auto hub = child.hub;
    if (++child.arrived == static_cast<int>(ranks.size())) hub_->forming.erase(key);
    auto group =
        std::make_unique<ThreadGroup>(std::move(name), my_rank, static_cast<int>(ranks.size()), std::move(hub));
    group->inherit(*this);
    group->copies_ = copies_;
    group->lane_ = lane_;
    return group;
  }

  void use_device(DeviceStream& stream) override {
    MovingGroup::use_device(stream);
    copies_ = stream.runtime().make_stream();
    lane_ = {&stream, copies_.get()};
  }

  bool shares_memory() const override { return true; }
  std::shared_ptr<Meeting> meet() override {
    const int number = num_meetings_++;
    std::lock_guard lock(hub_->mutex);
    Hub::Met& met = hub_->meetings[number];
    if (!met.meeting) met.meeting = std::make_shared<Meeting>();
    auto meeting = met.meeting;
    if (++met.arrived == size_) hub_->meetings.erase(number);
    return meeting;
  }
  void cancel(const std::string& reason) override { hub_->cancel(reason); }
  void cancel_all(const std::string& reason) override {
    Hub* top = hub_.get();
    while (top->parent) top = top->parent.get();
    top->cancel(reason);
  }
  bool cancelled() const override { return hub_->poison->is_set(); }

 protected:
  Request start_moves(std::span<const Move> moves) override { return start(moves, nullptr); }
  Request start_device_moves(std::span<const Move> moves) override { return start(moves, &lane_); }

 private:
  Request start(std::span<const Move> moves, Lane* lane) {
    Transfer* transfer = take_transfer();
    transfer->ops.clear();
    transfer->ops.reserve(moves.size());  // others point at them: they must not move
    if (lane) {
      if (!transfer->ready) transfer->ready = lane->work->make_event();
      transfer->ready->record(*lane->work);
      while (transfer->done.size() < moves.size()) transfer->done.push_back(lane->work->make_event());
    }
    for (std::size_t i = 0; i < moves.size(); ++i) {
      transfer->ops.push_back({.move = moves[i], .owner = rank_, .lane = lane});
      Op& op = transfer->ops.back();
      if (lane) op.ready = transfer->ready.get(), op.done = transfer->done[i].get();
      hub_->start(&op);
    }
    const Call call{this, transfer};  // small enough for std::function to hold
    return Request([call] { call.group->finish(*call.transfer); },
                   [call] { call.group->hub_->cancel("a rank stopped in the midst of a transfer"); });
  }

  struct Call {
    ThreadGroup* group;
    Transfer* transfer;
  };
  Transfer* take_transfer() {
    for (auto& t : transfers_)
      if (!std::exchange(t->in_use, true)) return t.get();
    transfers_.push_back(std::make_unique<Transfer>());
    transfers_.back()->in_use = true;
    return transfers_.back().get();
  }
  void finish(Transfer& transfer) {
    struct Return {
      Transfer& t;
      ~Return() { t.in_use = false; }
    } back{transfer};
    hub_->finish(transfer.ops, rank_, name_);
    for (const Op& op : transfer.ops)
      if (op.lane && op.move.size > 0) op.done->wait(*op.lane->work);
  }

  std::shared_ptr<Hub> hub_;
  std::vector<std::unique_ptr<Transfer>> transfers_;  // requests must not outlive their group
  std::map<std::string, int> made_;
  int num_meetings_ = 0;
  std::shared_ptr<DeviceStream> copies_;  // shared with subgroups
  Lane lane_{};
};

}  // namespace

std::vector<std::unique_ptr<Group>> make_thread_groups(std::string name, int size) {
  FOURMI_CHECK(size >= 1, "{}: a group of {}", name, size);
  auto hub = std::make_shared<Hub>(size, nullptr);
  std::vector<std::unique_ptr<Group>> groups;
  for (int r = 0; r < size; ++r) groups.push_back(std::make_unique<ThreadGroup>(name, r, size, hub));
  return groups;
}

}  // namespace fourmi
