#include <nccl.h>
#include <nccl_device.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/window_addresses.h"

namespace fourmi::cuda {
namespace {

__global__ void read_addresses(ncclWindow_t window, int num_ranks, void** addresses) {
  for (int r = static_cast<int>(threadIdx.x); r < num_ranks; r += static_cast<int>(blockDim.x))
    addresses[r] = ncclGetLsaPointer(window, 0, r);
}

struct DeviceTable {
  void* data = nullptr;
  ~DeviceTable() { cudaFree(data); }
};

}  // namespace

int version_of_windows() {
  return NCCL_VERSION_CODE;
}

void read_window_addresses(void* window, std::span<std::byte*> addresses, cudaStream_t stream) {
  DeviceTable table;
  check(cudaMalloc(&table.data, addresses.size_bytes()), "device memory for addresses of windows");
  read_addresses<<<1, 32, 0, stream>>>(static_cast<ncclWindow_t>(window), static_cast<int>(addresses.size()),
                                       static_cast<void**>(table.data));
  check(cudaGetLastError(), "reading addresses of windows");
  check(cudaMemcpyAsync(addresses.data(), table.data, addresses.size_bytes(), cudaMemcpyDeviceToHost, stream),
        "reading addresses of windows");
  check(cudaStreamSynchronize(stream), "reading addresses of windows");
}

}  // namespace fourmi::cuda
