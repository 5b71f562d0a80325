#include <sys/mman.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "tests/cuda_on_cpu/cuda_runtime_api.h"

namespace {

/// What cudaMalloc gave: closed to the host while nobody holds it open.
class Memory {
 public:
  void* allocate(std::size_t bytes) {
    const std::scoped_lock lock(mutex_);
    const std::size_t size = (bytes + page - 1) / page * page + page;
    void* p = mmap(nullptr, size, open_ > 0 ? PROT_READ | PROT_WRITE : PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    sizes_[p] = size;
    return p;
  }
  bool free(void* p) {
    const std::scoped_lock lock(mutex_);
    const auto at = sizes_.find(p);
    if (at == sizes_.end()) return false;
    munmap(p, at->second);
    sizes_.erase(at);
    return true;
  }
  bool has(const void* p) {
    const std::scoped_lock lock(mutex_);
    const auto behind = sizes_.upper_bound(const_cast<void*>(p));
    if (behind == sizes_.begin()) return false;
    const auto& [begin, size] = *std::prev(behind);
    return static_cast<const char*>(p) < static_cast<const char*>(begin) + size;
  }
  void open() {
    const std::scoped_lock lock(mutex_);
    if (open_++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  void close() {
    const std::scoped_lock lock(mutex_);
    if (--open_ == 0) protect(PROT_NONE);
  }

 private:
  static constexpr std::size_t page = 4096;
  void protect(int how) {
    for (const auto& [p, size] : sizes_)
      if (mprotect(p, size, how) != 0) std::abort();
  }
  std::mutex mutex_;
  std::map<void*, std::size_t> sizes_;
  int open_ = 0;
};

Memory& memory() {
  static Memory m;
  return m;
}

/// The stream that calls without one go through. Its work is done when the host waits for it, not before: streams of
/// cudaStreamNonBlocking do not, and may be ahead of it.
class NullStream {
 public:
  void give(std::function<void()> work) {
    const std::scoped_lock lock(mutex_);
    work_.push_back(std::move(work));
  }
  void finish() {
    const std::scoped_lock lock(mutex_);
    if (work_.empty()) return;
    const cuda_on_cpu::MemoryOpen open;
    for (const auto& work : std::exchange(work_, {})) work();
  }

 private:
  std::mutex mutex_;
  std::vector<std::function<void()>> work_;
};

NullStream& null_stream() {
  static NullStream s;
  return s;
}

/// What copies and fills on a stream of its own do at once.
void copy_now(void* to, const void* from, std::size_t bytes) {
  const cuda_on_cpu::MemoryOpen open;
  if (bytes > 0) std::memcpy(to, from, bytes);
}

}  // namespace

struct CudaOnCpuStream {};
struct CudaOnCpuEvent {
  std::chrono::steady_clock::time_point recorded;
};

cuda_on_cpu::MemoryOpen::MemoryOpen() {
  memory().open();
}
cuda_on_cpu::MemoryOpen::~MemoryOpen() {
  memory().close();
}

const char* cudaGetErrorString(cudaError_t e) {
  return e == cudaErrorInvalidConfiguration ? "a grid or a block of a size that no card takes"
                                            : "an error of the emulated card";
}
const char* cudaGetErrorName(cudaError_t) {
  return "cudaError";
}
cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  *p = {"a card emulated on the CPU", 9, 0, 4, 1 << 20, 0, 227 << 10, std::size_t{1} << 30};
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) {
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = *total = std::size_t{1} << 30;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 0;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  *p = memory().allocate(bytes);
  return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFree(void* p) {
  null_stream().finish();
  return p == nullptr || memory().free(p) ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaMallocAsync(void** p, std::size_t bytes, cudaStream_t) {
  return cudaMalloc(p, bytes);
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t) {
  return memory().free(p) ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned) {
  *p = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* p) {
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMemset(void* p, int byte, std::size_t bytes) {
  null_stream().give([=] { std::memset(p, byte, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* p, int byte, std::size_t bytes, cudaStream_t) {
  const cuda_on_cpu::MemoryOpen open;
  std::memset(p, byte, bytes);
  return cudaSuccess;
}
/// To the host: waits. From pageable memory of the host: returns when that was read, before it has arrived.
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  if (bytes == 0) return cudaSuccess;
  if (!memory().has(to)) {
    null_stream().finish();
    copy_now(to, from, bytes);
  } else if (memory().has(from)) {
    null_stream().give([=] { std::memcpy(to, from, bytes); });
  } else {
    const auto* const first = static_cast<const char*>(from);
    null_stream().give(
        [to, staged = std::vector<char>(first, first + bytes)] { std::memcpy(to, staged.data(), staged.size()); });
  }
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
  copy_now(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind, cudaStream_t) {
  const cuda_on_cpu::MemoryOpen open;
  for (std::size_t r = 0; r < height; ++r)
    std::memcpy(static_cast<char*>(to) + r * to_pitch, static_cast<const char*>(from) + r * from_pitch, width);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  null_stream().finish();
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) {
  *s = new CudaOnCpuStream;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
  delete s;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  if (!s) null_stream().finish();
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) {
  *e = new CudaOnCpuEvent;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
  delete e;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t) {
  e->recorded = std::chrono::steady_clock::now();
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  *milliseconds = std::chrono::duration<float, std::milli>(to->recorded - from->recorded).count();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return cudaSuccess;
}
