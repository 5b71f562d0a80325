// A group: the peers along one axis of the mesh. It moves bytes, takes maxima and adds integers; sums of floats across ranks are
// ours (ordered_sum.h), so that their order is fixed. A group of one is a no-op, so callers never ask for its size first.
//
// Collective calls are made by every member in the same order. Memory is the host's. A call returns when this rank's part is
// complete; the start_* forms return a Request at once and the buffers belong to the group until it is waited for.
// Any wait throws Error(rank_lost) once the group was poisoned (cancel), so nothing waits for ever on a dead peer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/runtime/dtype.h"

namespace fourmi {

/// A started operation. wait() finishes it; destroying an unfinished request waits (or throws nothing if cancelled).
class Request {
 public:
  Request() = default;
  explicit Request(std::function<void()> finish) : finish_(std::move(finish)) {}
  Request(Request&& o) noexcept : finish_(std::exchange(o.finish_, nullptr)) {}
  Request& operator=(Request&& o) noexcept;
  ~Request();
  void wait();

 private:
  std::function<void()> finish_;
};

class Group {
 public:
  virtual ~Group() = default;
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::string& name() const { return name_; }

  /// recv holds size() * send.size() bytes, in rank order. send may be its own place inside recv.
  void all_gather(std::span<const std::byte> send, std::span<std::byte> recv) { start_all_gather(send, recv).wait(); }
  /// Unequal counts: rank r contributes counts[r] bytes; recv holds their sum, in rank order.
  void all_gather_v(std::span<const std::byte> send, std::span<std::byte> recv, std::span<const std::size_t> counts);
  /// send holds send_counts[r] bytes for each rank r in order; recv receives recv_counts[r] bytes from each. Counts exceed 2^31.
  void all_to_all(std::span<const std::byte> send, std::span<const std::size_t> send_counts, std::span<std::byte> recv,
                  std::span<const std::size_t> recv_counts) {
    start_all_to_all(send, send_counts, recv, recv_counts).wait();
  }
  virtual Request start_all_gather(std::span<const std::byte> send, std::span<std::byte> recv) = 0;
  virtual Request start_all_to_all(std::span<const std::byte> send, std::span<const std::size_t> send_counts,
                                   std::span<std::byte> recv, std::span<const std::size_t> recv_counts) = 0;
  virtual void broadcast(std::span<std::byte> data, int root) = 0;
  virtual void barrier() = 0;
  virtual Request start_send(std::span<const std::byte> data, int to, int tag) = 0;
  virtual Request start_receive(std::span<std::byte> data, int from, int tag) = 0;

  /// In place, element-wise, exact and order-free.
  virtual void all_max(std::span<double> values) = 0;   ///< NaN wins over everything
  virtual void all_max(std::span<std::int64_t> values) = 0;
  virtual void all_sum(std::span<std::int64_t> values) = 0;
  virtual void all_sum(std::span<int128> values) = 0;

  /// Poisons the group: every present and future wait of any member throws Error(rank_lost, reason).
  virtual void cancel(const std::string& reason) = 0;

  /// Bytes that this rank has sent and received so far (the traffic meter).
  std::int64_t bytes_moved() const { return bytes_moved_; }

 protected:
  Group(std::string name, int rank, int size) : name_(std::move(name)), rank_(rank), size_(size) {}
  std::string name_;
  int rank_, size_;
  std::int64_t bytes_moved_ = 0;
};

/// The group of one.
std::unique_ptr<Group> make_self_group(std::string name);

/// `size` groups that are members of one another, for `size` threads of this process.
std::vector<std::unique_ptr<Group>> make_thread_groups(std::string name, int size);

template <class T>
std::span<const std::byte> bytes_of(std::span<const T> s) { return std::as_bytes(s); }

}  // namespace fourmi
