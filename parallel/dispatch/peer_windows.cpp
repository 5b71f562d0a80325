#include "parallel/dispatch/peer_windows.h"

#include <cstring>

#include "kernels/exchange/host_agent.h"
#include "parallel/backoff.h"

namespace fourmi {

PeerWindows::PeerWindows(Group& group, const exchange::Window& window, const Tensor& memory)
    : group_(group), window_(window), bases_(static_cast<std::size_t>(group.size())), rank_(group.rank()) {
  if (!group.shares_memory())
    throw Error(ExitStatus::usage, "parallel.dispatcher",
                "found device for ranks that are processes without GPUs, expected ranks that reach each other's memory",
                "Choose all-to-all or hierarchical");
  FOURMI_CHECK(memory.bytes() >= window.bytes(), "{} bytes for a window of {}", memory.bytes(), window.bytes());
  auto* const mine = static_cast<std::byte*>(memory.data);
  FOURMI_CHECK(reinterpret_cast<std::uintptr_t>(mine) % exchange::Window::alignment == 0, "a window at {}",
               static_cast<const void*>(mine));
  std::memset(mine, 0, static_cast<std::size_t>(window.zeroed_bytes()));
  // Who has all addresses knows that all windows are zero: they are gathered behind that.
  group.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(bases_)));
}

PeerWindows::~PeerWindows() {
  if (std::uncaught_exceptions() > exceptions_) group_.cancel_all("a rank left a dispatch that others may be in");
  exchange::HostAgent agent;
  const exchange::Peers all = peers();
  for (int r = 0; r < group_.size(); ++r) agent.release(all.at<std::uint64_t>(r, window_.left(rank_)), 1);
  Backoff backoff;
  for (int r = 0; r < group_.size(); ++r)
    while (agent.acquire(all.at<std::uint64_t>(rank_, window_.left(r))) == 0) backoff.pause();
}

}  // namespace fourmi
