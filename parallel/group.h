// A group: the peers along one axis of the mesh. It moves bytes, takes maxima and adds integers; sums of floats across
// ranks are ours (ordered_sum.h), so that their order is fixed. A group of one is a no-op, so callers never ask for its
// size first.
//
// Collective calls are made by every member in the same order. Memory is the host's, or of the device whose stream the
// group was given (use_device). A call returns when this rank's part is complete; the start_* forms return a Request at
// once and the buffers belong to the group until it is waited for. With a device's memory "complete" and "waited for"
// are said of the stream: what moves comes behind the work that the stream was given before the call, and what it is
// given after the wait comes behind the move; the host need not wait for either. A send may be held until its receive
// is posted. Any wait throws Error(rank_lost) once the group was poisoned (cancel), so nothing waits for ever on a dead
// peer. One thread a rank uses a group; only cancel() may be called from another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/runtime/device.h"
#include "kernels/runtime/dtype.h"
#include "parallel/calls.h"
#include "parallel/traffic.h"

namespace fourmi {

class Meeting;  // parallel/meeting.h

/// A started operation. wait() finishes it; destroying an unfinished request waits (and throws nothing). Destroyed
/// while an exception passes, it poisons its group first: the peers may never do their part, and this rank is ending
/// anyway.
class Request {
 public:
  Request() = default;
  explicit Request(std::function<void()> finish, std::function<void()> abandon = nullptr)
      : finish_(std::move(finish)), abandon_(std::move(abandon)) {}
  Request(Request&& o) noexcept
      : finish_(std::exchange(o.finish_, nullptr)),
        abandon_(std::exchange(o.abandon_, nullptr)),
        notes_(std::move(o.notes_)),
        call_(o.call_),
        exceptions_(o.exceptions_) {}
  Request& operator=(Request&& o) noexcept;
  ~Request();
  void wait();
  /// While it is waited for, the rank's notes say that it is in this call.
  void note(const std::shared_ptr<CallNotes>& notes, std::uint64_t call) { notes_ = notes, call_ = call; }

 private:
  void end() noexcept;
  std::function<void()> finish_, abandon_;
  std::shared_ptr<CallNotes> notes_;
  std::uint64_t call_ = 0;
  int exceptions_ = std::uncaught_exceptions();
};

class Group {
 public:
  virtual ~Group() = default;
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::string& name() const { return name_; }

  /// A group of some members of this one: called by exactly those, in the same order of calls. ranks are this group's,
  /// ascending or not; the position in `ranks` is the rank in the new group. Poisoning a group poisons its subgroups.
  virtual std::unique_ptr<Group> subgroup(std::string name, std::span<const int> ranks) = 0;

  /// This group, and groups made of it from here on, move memory of this stream's device too, which outlives them; all
  /// of one call is the host's or all the device's. Collective. Throws Error(environment) where the group cannot.
  virtual void use_device(DeviceStream& stream) { device_ = &stream; }
  /// Before ranks of the group send each other messages of device memory. Collective. With a device only neighbours
  /// (rank +- 1, the first and the last too) send each other such.
  virtual void prepare_messages() {}
  DeviceStream* device() const { return device_; }  ///< null: all memory is the host's

  /// recv holds size() * send.size() bytes, in rank order. send may be its own place inside recv.
  void all_gather(std::span<const std::byte> send, std::span<std::byte> recv) { start_all_gather(send, recv).wait(); }
  /// Unequal counts: rank r contributes counts[r] bytes; recv holds their sum, in rank order.
  void all_gather_v(std::span<const std::byte> send, std::span<std::byte> recv, std::span<const std::size_t> counts) {
    start_all_gather_v(send, recv, counts).wait();
  }
  /// send holds send_counts[r] bytes for each rank r in order; recv receives recv_counts[r] bytes from each. Counts may
  /// exceed 2^31.
  void all_to_all(std::span<const std::byte> send, std::span<const std::size_t> send_counts, std::span<std::byte> recv,
                  std::span<const std::size_t> recv_counts) {
    start_all_to_all(send, send_counts, recv, recv_counts).wait();
  }
  virtual Request start_all_gather(std::span<const std::byte> send, std::span<std::byte> recv) = 0;
  virtual Request start_all_gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                                     std::span<const std::size_t> counts) = 0;
  virtual Request start_all_to_all(std::span<const std::byte> send, std::span<const std::size_t> send_counts,
                                   std::span<std::byte> recv, std::span<const std::size_t> recv_counts) = 0;
  virtual void broadcast(std::span<std::byte> data, int root) = 0;
  virtual void barrier() = 0;
  /// Messages between two ranks with one tag (0 <= tag < 2^30) arrive in the order in which they were sent. Sizes
  /// agree.
  virtual Request start_send(std::span<const std::byte> data, int to, int tag) = 0;
  virtual Request start_receive(std::span<std::byte> data, int from, int tag) = 0;

  /// Of the host's numbers: in place, element-wise, exact and order-free (all_reduce.cpp, on top of the moves above).
  /// Up to so many bytes everyone sends everything to everyone (one round); beyond, each folds its piece (two rounds,
  /// fewer bytes).
  static constexpr std::int64_t one_round_bytes = 16 * 1024;
  virtual void all_max(std::span<double> values);  ///< NaN wins over everything; +0 over -0
  virtual void all_max(std::span<std::int64_t> values);
  virtual void all_sum(std::span<std::int64_t> values);  ///< modulo 2^64
  virtual void all_sum(std::span<int128> values);        ///< modulo 2^128

  /// Poisons the group: every present and future wait of any member throws Error(rank_lost, reason). Any thread.
  virtual void cancel(const std::string& reason) = 0;
  /// Poisons the groups that this one was made of as well, so that no rank of the run goes on waiting. Any thread.
  virtual void cancel_all(const std::string& reason) { cancel(reason); }
  /// Is it poisoned, as far as this rank knows?
  virtual bool cancelled() const = 0;

  /// An array of size() numbers for what is built on the group, kept from call to call: `which` of three, so that a
  /// transfer's two lists of counts do not meet all_sum's.
  std::span<std::size_t> counts(int which) {
    std::vector<std::size_t>& c = counts_[which];
    c.resize(static_cast<std::size_t>(size_));
    return c;
  }

  /// Can this rank read and write the memory of the others, at the addresses that they know it by?
  virtual bool shares_memory() const { return size_ == 1; }
  /// Of ranks that reach each other's memory: one for all of them, a new one at each call. Null for others.
  virtual std::shared_ptr<Meeting> meet() { return nullptr; }
  /// A collective whose bytes went past the group, through the ranks' memory: checked and counted as `call`.
  void made(Call call, std::int64_t sent, std::int64_t received) {
    const Named named(*this, call);
    count(sent, received);
  }

  /// Bytes of a call that made() was told of before they were known.
  void moved(Call call, std::int64_t sent, std::int64_t received) {
    asked_ = call;
    count(sent, received);
  }

  /// Bytes that this rank has sent to and received from other ranks so far.
  std::int64_t bytes_moved() const { return bytes_moved_; }
  /// What it has sent so far, by what it was asked for. A group of one sends nothing and counts no call.
  const TrafficByCall& traffic() const { return traffic_; }

  /// What this rank waits for, in this group and all that share its notes (its subgroups, and the group that it was
  /// made of).
  const std::shared_ptr<CallNotes>& calls() const { return calls_; }

 protected:
  Group(std::string name, int rank, int size)
      : name_(std::move(name)), rank_(rank), size_(size), index_(calls_->add_group(name_)) {}

  /// Names the call that the moves from here on belong to; inside another one's the outer name stays.
  class Named {
   public:
    Named(Group& group, Call call) : group_(group) {
      if (group_.named_ == 0 && group_.size_ > 1)
        if (CallObserver* observer = group_.calls_->observer()) observer->called(group_, call);
      if (group_.named_++ > 0) return;
      group_.num_calls_ += call != Call::send && call != Call::receive;
      group_.call_ = CallNotes::pack(call, group_.index_, group_.num_calls_);
      group_.asked_ = call;
      group_.traffic_of(call).calls += group_.size_ > 1;
    }
    ~Named() { --group_.named_; }
    Named(const Named&) = delete;
    Named& operator=(const Named&) = delete;

   private:
    Group& group_;
  };
  /// The call that is being made.
  std::uint64_t call() const { return call_; }
  void count(std::int64_t sent, std::int64_t received) {
    bytes_moved_ += sent + received;
    traffic_of(asked_).bytes += sent;
  }
  /// A subgroup notes where its parent does.
  void share_calls(const Group& parent) {
    calls_ = parent.calls_;
    index_ = calls_->add_group(name_);
  }
  void share_device(const Group& parent) { device_ = parent.device_; }

  std::string name_;
  int rank_, size_;

 private:
  Traffic& traffic_of(Call call) { return traffic_[static_cast<std::size_t>(call)]; }
  template <class T, class Fold>
  void reduce(std::span<T> values, Fold fold);
  std::vector<std::byte> scratch_;
  DeviceStream* device_ = nullptr;
  std::shared_ptr<CallNotes> calls_ = std::make_shared<CallNotes>();
  int index_ = 0, named_ = 0;
  std::int64_t num_calls_ = 0;  // collectives so far
  std::uint64_t call_ = 0;
  Call asked_ = Call::none;
  std::int64_t bytes_moved_ = 0;
  TrafficByCall traffic_{};
  std::vector<std::size_t> counts_[4];  // all of a group's lists keep their memory: a steady step allocates nothing

 protected:
  std::span<std::size_t> equal_counts(std::size_t each) {
    counts_[3].assign(static_cast<std::size_t>(size_), each);
    return counts_[3];
  }
};

/// The group of one.
std::unique_ptr<Group> make_self_group(std::string name);

/// `size` groups that are members of one another, for `size` threads of this process.
std::vector<std::unique_ptr<Group>> make_thread_groups(std::string name, int size);

template <class T>
std::span<const std::byte> bytes_of(std::span<const T> s) {
  return std::as_bytes(s);
}

}  // namespace fourmi
