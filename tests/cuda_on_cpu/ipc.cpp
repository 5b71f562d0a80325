// Memory shared between processes, of which this one plays all.
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>

#include "tests/cuda_on_cpu/cuda_runtime_api.h"

namespace {

std::mutex mutex;
std::map<void*, int>& opened() {
  static std::map<void*, int> m;
  return m;
}

}  // namespace

cudaError_t cudaDeviceGetPCIBusId(char* text, int size, int) {
  std::snprintf(text, static_cast<std::size_t>(size), "0000:0c:00.0");
  return cudaSuccess;
}
cudaError_t cudaDeviceGetByPCIBusId(int* device, const char* text) {
  *device = 0;
  return std::strcmp(text, "0000:0c:00.0") == 0 ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* memory) {
  *handle = {};
  std::memcpy(handle->reserved, &memory, sizeof(memory));
  return cudaSuccess;
}
cudaError_t cudaIpcOpenMemHandle(void** memory, cudaIpcMemHandle_t handle, unsigned) {
  std::memcpy(memory, handle.reserved, sizeof(*memory));
  const std::scoped_lock lock(mutex);
  ++opened()[*memory];
  return cudaSuccess;
}
cudaError_t cudaIpcCloseMemHandle(void* memory) {
  const std::scoped_lock lock(mutex);
  const auto at = opened().find(memory);
  if (at == opened().end()) return cudaErrorInvalidValue;
  if (--at->second == 0) opened().erase(at);
  return cudaSuccess;
}
