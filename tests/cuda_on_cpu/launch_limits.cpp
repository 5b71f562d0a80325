// Limits of launches: those of compute capability 9.0.
#include <map>
#include <mutex>

#include "tests/cuda_on_cpu/cuda_runtime_api.h"

namespace cuda_on_cpu {
namespace {

constexpr std::size_t least_shared = 48 << 10, most_shared = 227 << 10;
constexpr std::size_t most_threads_at_once = 4 * 2048;  // of all multiprocessors

struct Allowed {
  std::mutex mutex;
  std::map<const void*, std::size_t> bytes;
};
Allowed& allowed() {
  static Allowed a;
  return a;
}

}  // namespace

cudaError_t allow_shared(const void* kernel, int bytes) {
  if (bytes < 0 || static_cast<std::size_t>(bytes) > most_shared) return cudaErrorInvalidValue;
  const std::scoped_lock lock(allowed().mutex);
  allowed().bytes[kernel] = static_cast<std::size_t>(bytes);
  return cudaSuccess;
}

cudaError_t check_launch(const void* kernel, const cudaLaunchConfig_t& c) {
  const dim3 &g = c.gridDim, &b = c.blockDim;
  const bool grid = 0 < g.x && g.x < 1u << 31 && 0 < g.y && g.y < 1u << 16 && 0 < g.z && g.z < 1u << 16;
  const bool block = 0 < b.x && 0 < b.y && 0 < b.z && b.z <= 64 && std::size_t{b.x} * b.y * b.z <= 1024;
  if (!grid || !block) return cudaErrorInvalidConfiguration;
  const std::size_t threads = std::size_t{g.x} * g.y * g.z * b.x * b.y * b.z;
  if (is_cooperative(c) && threads > most_threads_at_once) return cudaErrorCooperativeLaunchTooLarge;
  if (c.dynamicSmemBytes <= least_shared) return cudaSuccess;
  const std::scoped_lock lock(allowed().mutex);
  const auto found = allowed().bytes.find(kernel);
  return found != allowed().bytes.end() && c.dynamicSmemBytes <= found->second ? cudaSuccess : cudaErrorInvalidValue;
}

bool is_cooperative(const cudaLaunchConfig_t& c) {
  for (unsigned i = 0; i < c.numAttrs; ++i)
    if (c.attrs[i].id == cudaLaunchAttributeCooperative && c.attrs[i].val.cooperative != 0) return true;
  return false;
}

}  // namespace cuda_on_cpu
