#include "parallel/dispatch/peer_windows.h"

namespace fourmi {

PeerWindows::PeerWindows(Group& group, const exchange::Window& window, const Tensor& memory)
    : group_(group),
      window_(window),
      memory_(open_peer_memory(
          group,
          {.bytes = window.bytes(), .zeroed_bytes = window.zeroed_bytes(), .alignment = exchange::Window::alignment},
          memory)),
      rank_(group.rank()) {}

PeerWindows::~PeerWindows() {
  if (std::uncaught_exceptions() > exceptions_) group_.cancel_all("a rank left a dispatch that others may be in");
}

}  // namespace fourmi
