// The collectives of every back end that can send and receive: each is a list of moves between pairs, so self, threads
// and MPI differ in start_moves, start_device_moves and cancel alone. Moves between the same two ranks with the same
// tag match in the order in which they are started; collectives share one tag of their own, since all members call them
// in the same order.
#pragma once

#include "parallel/group.h"

namespace fourmi {

class CallTimer;

/// One message of `size` bytes to or from `peer`.
struct Move {
  enum class Kind : std::uint8_t { send, receive } kind;
  std::byte* data;  ///< only read by a send
  std::size_t size;
  int peer;
  int tag;  ///< 0: collectives; a user's tag t is t + 1
};

class MovingGroup : public Group {
 public:
  Request start_all_gather(std::span<const std::byte> send, std::span<std::byte> recv) override;
  Request start_all_gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                             std::span<const std::size_t> counts) override;
  Request start_all_to_all(std::span<const std::byte> send, std::span<const std::size_t> send_counts,
                           std::span<std::byte> recv, std::span<const std::size_t> recv_counts) override;
  void broadcast(std::span<std::byte> data, int root) override;
  void barrier() override;
  Request start_send(std::span<const std::byte> data, int to, int tag) override;
  Request start_receive(std::span<std::byte> data, int from, int tag) override;

 protected:
  using Group::Group;
  /// Starts all moves; the request ends when all have. `moves` itself may go when this returns, the data may not.
  virtual Request start_moves(std::span<const Move> moves) = 0;
  /// The same for memory of the device, in the order of its stream: the request's end is one for the stream.
  virtual Request start_device_moves(std::span<const Move> moves);
  /// Within this rank.
  void copy_bytes(std::byte* to, const std::byte* from, std::size_t size) const;
  /// What a subgroup has from the group that it was made of.
  void inherit(const MovingGroup& parent) {
    share_calls(parent);
    share_device(parent);
  }

 private:
  bool on_device(const std::byte* memory) const { return device() && device()->runtime().owns(memory); }
  /// Are they of the device? What moves nothing is the host's.
  bool on_device(std::span<const Move> moves) const;
  Request start(std::span<const Move> moves);
  Request until_ended(Request request, CallTimer& timer, std::int32_t number);
  std::vector<Move> moves_;  // kept for its memory
};

}  // namespace fourmi
