// Where NCCL's windows are, read by code of the device: before 2.30 NCCL tells it to nobody else. What such code reads
// is laid out by NCCL's version. nccl/window_addresses.cu where NCCL's device headers are, else nccl_absent.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <span>

namespace fourmi::cuda {

/// The version of NCCL whose windows this reads, as NCCL counts (22809); 0: none.
int version_of_windows();
/// Of each rank of the window's load/store team. The host waits. Throws Error(environment).
void read_window_addresses(void* window, std::span<std::byte*> addresses, cudaStream_t stream);

}  // namespace fourmi::cuda
