// How operations give kernels to a stream. For .cu files.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/stream.h"

namespace fourmi::cuda {

/// Typed pointer into a device's tensor; a wrong type, or memory of the host, is a bug and says so.
template <class T>
T* pointer(const Tensor& t) {
  FOURMI_CHECK(t.device == Device::cuda, "a tensor of the host {} given to the device", to_string(t.shape));
  FOURMI_CHECK(t.dtype == dtype_of<T>, "tensor of {} read as {}", name_of(t.dtype), name_of(dtype_of<T>));
  return static_cast<T*>(t.data);
}
/// The bytes of one, whatever its dtype; null for an absent tensor.
inline std::byte* bytes(const Tensor& t) {
  FOURMI_CHECK(!t || t.device == Device::cuda, "a tensor of the host {} given to the device", to_string(t.shape));
  return static_cast<std::byte*>(t.data);
}
/// pointer(), or null for an absent tensor.
template <class T>
T* pointer_or_null(const Tensor& t) {
  return t ? pointer<T>(t) : nullptr;
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// Blocks for n items, `each` a block; at most `most`, whose threads then go round (grid-stride loops).
inline unsigned num_blocks(std::int64_t n, std::int64_t each, std::int64_t most) {
  return static_cast<unsigned>(std::clamp<std::int64_t>(ceil_div(n, each), 1, most));
}

/// Dynamic shared memory that a block may have on every card of compute capability 8.0 and later, in bytes: 8.6, 8.9
/// and 12.0 have the least.
inline constexpr std::int64_t shared_of_any_card = 99 << 10;

/// Gives a kernel to the stream. `shared`: dynamic shared memory in bytes (dynamic_shared.h).
template <class... Parameters, class... Arguments>
void launch(const CudaStream& stream, void (*kernel)(Parameters...), dim3 blocks, dim3 threads, std::int64_t shared,
            Arguments... arguments) {
  if (shared > 48 << 10)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
          "shared memory of a kernel");
  const cudaLaunchConfig_t config{blocks, threads, static_cast<std::size_t>(shared), stream.handle(), nullptr, 0};
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "launching a kernel");
}

}  // namespace fourmi::cuda
