#include "parallel/dispatch/peer_windows.h"

#include <cstring>

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
  meeting_ = group.meet();
  if (!meeting_) meeting_ = std::make_shared<Meeting>();  // alone
  meeting_->enter();
  try {
    // Who has all addresses knows that all windows are zero: they are gathered behind that.
    group.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(bases_)));
  } catch (...) {  // others may have them, and may be writing
    group.cancel_all("a rank was lost while windows were made");
    meeting_->leave();
    throw;
  }
}

PeerWindows::~PeerWindows() {
  if (std::uncaught_exceptions() > exceptions_) group_.cancel_all("a rank left a dispatch that others may be in");
  meeting_->leave();
}

}  // namespace fourmi
