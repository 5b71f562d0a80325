#include "kernels/runtime/cuda_peers.h"

namespace fourmi {

std::int64_t fp8_peer_bytes(std::int64_t, std::int64_t, std::int64_t) {
  return 0;
}
std::function<void()> fp8_forward_peer(DeviceStream&, const Tensor&, const Tensor&, const Tensor&, const Tensor&) {
  return nullptr;
}
std::function<void()> fp8_gradient_peer(DeviceStream&, const ColumnScaled&, const ColumnScaled&, const Tensor&) {
  return nullptr;
}

}  // namespace fourmi
