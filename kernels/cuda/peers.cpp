#include "kernels/cuda/library/fp8_peer.h"
#include "kernels/cuda/library/libraries.h"
#include "kernels/runtime/cuda_peers.h"

namespace fourmi {

std::int64_t fp8_peer_bytes(std::int64_t M, std::int64_t N, std::int64_t K) {
  return cuda::library::fp8_scratch(M, N, K).bytes;
}

std::function<void()> fp8_forward_peer(DeviceStream& stream, const Tensor& x_MK, const Tensor& w_NK, const Tensor& y_MN,
                                       const Tensor& scratch) {
  const auto& s = static_cast<const cuda::CudaStream&>(stream);
  const cuda::library::Fp8Peer peer{.x = x_MK.data,
                                    .w = w_NK.data,
                                    .y = y_MN.data,
                                    .dtype = y_MN.dtype,
                                    .M = x_MK.dim(0),
                                    .N = y_MN.dim(1),
                                    .K = x_MK.dim(1),
                                    .scratch = scratch.data};
  FOURMI_CHECK(scratch.bytes() >= fp8_peer_bytes(peer.M, peer.N, peer.K), "{} bytes of scratch", scratch.bytes());
  if (!s.libraries().cublaslt() || !fits(peer)) return nullptr;
  prepare(s, peer);
  if (!multiply(s, peer)) return nullptr;
  return [&s, peer] { multiply(s, peer); };
}

std::function<void()> fp8_gradient_peer(DeviceStream& stream, const ColumnScaled& dy, const ColumnScaled& x,
                                        const Tensor& dw_NK) {
  const auto& s = static_cast<const cuda::CudaStream&>(stream);
  const cuda::library::Fp8GradientPeer peer{.dy = dy.elements_MK.data,
                                            .x = x.elements_MK.data,
                                            .dy_scales = static_cast<const float*>(dy.scales_GK.data),
                                            .x_scales = static_cast<const float*>(x.scales_GK.data),
                                            .dw = static_cast<float*>(dw_NK.data),
                                            .N = dy.elements_MK.dim(1),
                                            .K = x.elements_MK.dim(1),
                                            .S = x.scales_GK.dim(0) * x.group_rows};
  if (!s.libraries().cublaslt() || !fits(peer) || !multiply(s, peer)) return nullptr;
  return [&s, peer] { multiply(s, peer); };
}

}  // namespace fourmi
