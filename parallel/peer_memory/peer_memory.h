// Memory of each rank of a group that all of them reach, by loads and stores, at addresses that each knows. By what way
// follows from where the ranks are (reach.h).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/runtime/tensor.h"
#include "parallel/peer_memory/reach.h"

namespace fourmi {

class PeerMemory {
 public:
  /// Collective: returns when nobody reaches this rank's memory any more, or when the group is poisoned.
  virtual ~PeerMemory() = default;
  PeerMemory(const PeerMemory&) = delete;
  PeerMemory& operator=(const PeerMemory&) = delete;

  /// Of every rank, as this one reaches it; its own among them.
  std::span<std::byte* const> bases() const { return bases_; }
  Reach reach() const { return reach_; }

 protected:
  PeerMemory(const Group& group, Reach reach) : bases_(static_cast<std::size_t>(group.size())), reach_(reach) {}
  std::vector<std::byte*> bases_;

 private:
  Reach reach_;
};

/// What each rank asks for; the same numbers on all of them.
struct PeerMemoryWish {
  std::int64_t bytes = 0;
  std::int64_t zeroed_bytes = 0;  ///< from the beginning: zero when anybody has an address; the rest may be anything
  std::int64_t alignment = 128;   ///< at most a page
};

/// Collective. `own`: u8 of `bytes`, of the group's device where it has one, for as long as the result is. It is this
/// rank's piece where its address is enough (threads); else the piece is elsewhere and `own` is not touched.
/// Throws Error(usage) where ranks cannot reach each other, Error(environment) where the memory cannot be had; the
/// same on all ranks.
std::unique_ptr<PeerMemory> open_peer_memory(Group& group, const PeerMemoryWish& wish, const Tensor& own);

}  // namespace fourmi
