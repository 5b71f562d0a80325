// The windows of a group's ranks: memory that each of them lays out alike, and that the others write to.
#pragma once

#include <exception>
#include <memory>

#include "kernels/exchange/window.h"
#include "kernels/runtime/tensor.h"
#include "parallel/group.h"
#include "parallel/peer_memory/peer_memory.h"

namespace fourmi {

class PeerWindows {
 public:
  /// Collective. `memory`: u8, for as long as this is: this rank's window where the others are threads of its process,
  /// else it stays untouched and the window is elsewhere (parallel/peer_memory). Throws as open_peer_memory.
  PeerWindows(Group& group, const exchange::Window& window, const Tensor& memory);
  /// Collective: the memory may go when it has returned. In an exception it poisons the group and those that it was
  /// made of first, so that the others come too, whatever they wait in.
  ~PeerWindows();
  PeerWindows(const PeerWindows&) = delete;
  PeerWindows& operator=(const PeerWindows&) = delete;

  exchange::Peers peers() const { return {memory_->bases().data(), window_, rank_}; }
  /// Of this rank: where its peers write to.
  std::byte* own() const { return memory_->bases()[static_cast<std::size_t>(rank_)]; }

 private:
  Group& group_;
  exchange::Window window_;
  std::unique_ptr<PeerMemory> memory_;
  int rank_;
  int exceptions_ = std::uncaught_exceptions();
};

}  // namespace fourmi
