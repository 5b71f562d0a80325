// Moves of device memory between ranks that are processes, by NCCL's sends and receives. What they are told apart by:
// NCCL matches what two ranks of a communicator exchange in the order in which both start it.
//
// All collectives of a rank, of whatever group, go through one stream in the order in which the rank starts them, which
// is the same on all members; so no two of them can wait for each other on the device. A message between two ranks
// waits on the sender's device until the receiver takes it: so each direction of a pair has a communicator and a stream
// of its own, and a rank's messages do not stand behind one another. Only neighbours (rank +- 1 of the group, the first
// and the last too) send each other messages.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "kernels/runtime/device.h"
#include "parallel/moving_group.h"
#include "parallel/nccl/library.h"

namespace fourmi::nccl {

/// What the groups of a rank share: the library, the stream of the rank's work, the stream of its collectives. Any
/// group that fails or is cancelled ends the communicators of all.
class Rank {
 public:
  Rank(std::shared_ptr<const Functions> functions, DeviceStream& work);

  const Functions& functions() const { return *functions_; }
  DeviceStream& work() const { return *work_; }
  DeviceStream& collectives() const { return *collectives_; }

  void add(Communicator* comm);
  /// Together: ranks may name them in any order. All members do so, as NCCL asks for.
  void remove(std::span<Communicator* const> comms);
  /// Ends what the device waits for, at once. Any thread.
  void abort();
  bool aborted() const { return aborted_; }
  /// Throws Error(rank_lost) where NCCL has seen a failure, after abort().
  void check(Result result, const char* what, const std::string& group);

 private:
  /// Calls end(comm) for each as one group of NCCL's: alone, each would wait until the device does nothing, which it
  /// never does while another one's kernels wait for a peer.
  void end_together(std::span<Communicator* const> comms, Result (*end)(Communicator*)) const;

  std::shared_ptr<const Functions> functions_;
  DeviceStream* work_;
  std::unique_ptr<DeviceStream> collectives_;
  std::mutex mutex_;
  std::vector<Communicator*> communicators_;
  std::atomic<bool> aborted_{false};
};

/// Of one group.
class Moves {
 public:
  /// Collective among the members of `group`, whose host memory carries NCCL's id.
  Moves(std::shared_ptr<Rank> rank, Group& group);
  ~Moves();
  Moves(const Moves&) = delete;
  Moves& operator=(const Moves&) = delete;

  /// Collective, before the first message between two ranks.
  void prepare_messages(Group& group);

  /// MovingGroup's start_device_moves. The request must not outlive this.
  Request start(std::span<const Move> moves);

 private:
  struct Channel {
    Communicator* comm = nullptr;
    DeviceStream* stream = nullptr;
    std::unique_ptr<DeviceStream> own;
    int peer = 0;  ///< the other rank's number in `comm`
  };
  struct Transfer {
    std::unique_ptr<DeviceEvent> ready, done;
    bool in_use = false;
  };
  Communicator* form(Group& group, std::span<const int> members);
  Channel make_channel(Group& group, int from, int to);
  /// Both ends wait for each other here, as they do in NCCL when they first exchange something: later, a rank that
  /// waits for one neighbour would leave the other one waiting.
  void connect(const Channel& channel, Move::Kind kind);
  /// Moves as one group of NCCL's. `peer`: to or from whom in `comm`; below 0: each move says it.
  void give(const Channel& channel, std::span<const Move> moves, int peer);
  Channel& channel_for(const Move& move);
  Transfer& take_transfer();

  std::shared_ptr<Rank> rank_;
  std::string name_;
  int me_, size_;
  Channel all_;
  std::vector<std::pair<int, Channel>> to_, from_;  // by peer
  /// A byte of the device.
  struct FirstMessage {
    DeviceRuntime* runtime = nullptr;
    void* data = nullptr;
    ~FirstMessage() {
      if (data) runtime->release(data);
    }
  };
  std::unique_ptr<FirstMessage> first_message_;
  std::vector<std::unique_ptr<Transfer>> transfers_;
};

}  // namespace fourmi::nccl
