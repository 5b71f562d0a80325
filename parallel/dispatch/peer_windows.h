// The windows of a group's ranks: memory that each of them lays out alike, and that the others write to.
#pragma once

#include <exception>
#include <memory>
#include <vector>

#include "kernels/exchange/window.h"
#include "kernels/runtime/tensor.h"
#include "parallel/group.h"
#include "parallel/meeting.h"

namespace fourmi {

class PeerWindows {
 public:
  /// Collective. `memory`: u8, this rank's window, for as long as the others may write to it. Throws Error(usage) where
  /// the group's ranks cannot reach each other's memory.
  PeerWindows(Group& group, const exchange::Window& window, const Tensor& memory);
  /// Collective: the memory may go when it has returned. In an exception it poisons the group and those that it was
  /// made of first, so that the others come too, whatever they wait in.
  ~PeerWindows();
  PeerWindows(const PeerWindows&) = delete;
  PeerWindows& operator=(const PeerWindows&) = delete;

  exchange::Peers peers() const { return {bases_.data(), window_, rank_}; }

 private:
  Group& group_;
  exchange::Window window_;
  std::vector<std::byte*> bases_;  // [ranks]
  std::shared_ptr<Meeting> meeting_;
  int rank_;
  int exceptions_ = std::uncaught_exceptions();
};

}  // namespace fourmi
