#include <fmt/format.h>

#include <array>
#include <cstdlib>
#include <cstring>

#include "kernels/cuda/clock.h"
#include "kernels/cuda/exchange/exchange.h"
#include "kernels/cuda/library/libraries.h"
#include "kernels/cuda/operations.h"
#include "kernels/cuda/profiler/nvtx_ranges.h"
#include "kernels/cuda/stream.h"
#include "kernels/cuda/window_addresses.h"
#include "kernels/runtime/cuda_devices.h"
#include "kernels/runtime/device_sharing.h"
#include "kernels/runtime/memory_ranges.h"

namespace fourmi {
namespace cuda {

void failed(cudaError_t status, const char* what) {
  const bool memory = status == cudaErrorMemoryAllocation;
  throw Error(
      ExitStatus::environment, "the GPU",
      fmt::format("{}: {} ({}), success was expected", what, cudaGetErrorString(status), cudaGetErrorName(status)),
      memory ? "Use more ranks, a smaller data.micro_batch_size or memory.recompute"
             : "Run fourmi doctor; what came before in the log may say more");
}

namespace {

class CudaEvent final : public DeviceEvent {
 public:
  CudaEvent() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "an event"); }
  ~CudaEvent() override { cudaEventDestroy(event_); }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  void record(DeviceStream& stream) override {
    check(cudaEventRecord(event_, static_cast<CudaStream&>(stream).handle()), "recording an event");
  }
  void wait(DeviceStream& stream) override {
    check(cudaStreamWaitEvent(static_cast<CudaStream&>(stream).handle(), event_, 0), "waiting for an event");
  }
  void synchronize() override { check(cudaEventSynchronize(event_), "waiting for an event"); }

 private:
  cudaEvent_t event_ = nullptr;
};

/// Devices that a launch takes, by CUDA's index; why others are not among them.
struct Supported {
  std::vector<int> indices;
  std::string trouble;
};

/// Streams that share one of the driver's queues wait for one another; what waits for a peer must hold up nobody else.
/// It has 8 queues for a GPU where it is not told otherwise before its first call, and it is told so in no other way.
void ask_for_queues() {
  [[maybe_unused]] static const int asked = setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
}

Supported find_supported() {
  ask_for_queues();
  int count = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess)
    return {{}, fmt::format("CUDA says: {}", cudaGetErrorString(status))};
  Supported s;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    if (const cudaError_t status = cudaGetDeviceProperties(&properties, i); status != cudaSuccess)
      s.trouble = fmt::format("GPU {}: {}", i, cudaGetErrorString(status));
    else if (!Capability{properties.major, properties.minor}.is_supported())
      s.trouble = fmt::format("GPU {} ({}) has compute capability {}.{}, kernels are for 9.0", i, properties.name,
                              properties.major, properties.minor);
    else
      s.indices.push_back(i);
  }
  if (count == 0) s.trouble = "no GPU";
  return s;
}

class CudaRuntime final : public DeviceRuntime, public DeviceSharing, public exchange::CardExchangeMaker {
 public:
  explicit CudaRuntime(int index) {
    card_.index = index;
    check(cudaSetDevice(index), "taking the GPU");
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, index), "asking the GPU");
    card_.name = properties.name;
    card_.num_multiprocessors = properties.multiProcessorCount;
    card_.shared_bytes = static_cast<std::int64_t>(properties.sharedMemPerBlockOptin);
    card_.l2_bytes = properties.l2CacheSize;
    card_.capability = {properties.major, properties.minor};
  }
  std::string name() const override { return card_.name; }
  void* allocate(std::int64_t bytes, const std::string& what) override {
    void* p = nullptr;
    take_card();
    check(cudaMalloc(&p, static_cast<std::size_t>(bytes)),
          fmt::format("{} bytes of device memory for {}", bytes, what).c_str());
    allocated_.add(p, bytes);
    finish(cudaMemset(p, 0, static_cast<std::size_t>(bytes)), "clearing device memory");
    return p;
  }
  void release(void* memory) noexcept override {
    allocated_.remove(memory);
    cudaFree(memory);
  }
  bool owns(const void* memory) const override { return allocated_.contains(memory); }
  void* allocate_host(std::int64_t bytes, const std::string& what) override {
    void* p = nullptr;
    take_card();
    check(cudaHostAlloc(&p, static_cast<std::size_t>(bytes), cudaHostAllocPortable),
          fmt::format("{} bytes of pinned host memory for {}", bytes, what).c_str());
    std::memset(p, 0, static_cast<std::size_t>(bytes));
    return p;
  }
  void release_host(void* memory) noexcept override { cudaFreeHost(memory); }
  void fill(void* memory, int byte, std::int64_t bytes) override {
    take_card();
    check(cudaDeviceSynchronize(), "work on the GPU");
    finish(cudaMemset(memory, byte, static_cast<std::size_t>(bytes)), "filling device memory");
  }
  void write(void* device, const void* host, std::int64_t bytes) override { move(device, host, bytes); }
  void read(void* host, const void* device, std::int64_t bytes) override { move(host, device, bytes); }
  std::unique_ptr<DeviceStream> make_stream() override { return std::make_unique<CudaStream>(card_, *this); }
  SpanObserver* span_observer() override { return nvtx_ranges(); }
  int num_multiprocessors() const override { return card_.num_multiprocessors; }
  std::unique_ptr<exchange::CardExchange> make_exchange(DeviceStream& stream, std::span<std::byte* const> bases,
                                                        const exchange::Window& window, int rank,
                                                        const exchange::CardExchangeOptions& options) override {
    return cuda::make_exchange(stream, bases, window, rank, options);
  }

  std::string bus_address() const override {
    std::array<char, 32> text{};
    check(cudaDeviceGetPCIBusId(text.data(), static_cast<int>(text.size()), card_.index), "asking the GPU");
    return text.data();
  }
  bool may_reach(const std::string& bus_address) const override {
    int other = 0, can = 0;
    if (cudaDeviceGetByPCIBusId(&other, bus_address.c_str()) != cudaSuccess) {
      cudaGetLastError();  // it is hidden from this process; opening its memory tells
      return true;
    }
    return other == card_.index || (cudaDeviceCanAccessPeer(&can, card_.index, other) == cudaSuccess && can != 0);
  }
  Handle share(const void* memory) override {
    const std::int64_t offset = allocated_.offset_of(memory);
    FOURMI_CHECK(offset >= 0, "memory of somebody else is shared");
    cudaIpcMemHandle_t handle;
    take_card();
    check(cudaIpcGetMemHandle(&handle, static_cast<std::byte*>(const_cast<void*>(memory)) - offset),
          "sharing device memory with other processes");
    Handle shared{.offset = offset};
    static_assert(sizeof(handle) == sizeof(shared.bytes));
    std::memcpy(shared.bytes.data(), &handle, sizeof(handle));
    return shared;
  }
  std::byte* open(const Handle& shared) override {
    cudaIpcMemHandle_t handle;
    std::memcpy(&handle, shared.bytes.data(), sizeof(handle));
    void* p = nullptr;
    take_card();
    check(cudaIpcOpenMemHandle(&p, handle, cudaIpcMemLazyEnablePeerAccess), "opening another process' device memory");
    return static_cast<std::byte*>(p) + shared.offset;
  }
  void close(std::byte* opened, const Handle& shared) noexcept override {
    cudaSetDevice(card_.index);
    cudaIpcCloseMemHandle(opened - shared.offset);
  }
  int version_of_windows() const override { return cuda::version_of_windows(); }
  void read_window_addresses(void* window, std::span<std::byte*> addresses) override {
    take_card();
    check(cudaDeviceSynchronize(), "work on the GPU");
    cuda::read_window_addresses(window, addresses, nullptr);
  }

 private:
  void move(void* to, const void* from, std::int64_t bytes) const {
    take_card();
    check(cudaDeviceSynchronize(), "work on the GPU");
    finish(cudaMemcpy(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDefault), "a copy");
  }
  /// A host thread that never called begins on the first GPU.
  void take_card() const { check(cudaSetDevice(card_.index), "taking the GPU"); }
  /// cudaMemset and cudaMemcpy go through a stream of CUDA's and may return before it has done them; ours do not wait
  /// for that stream.
  static void finish(cudaError_t begun, const char* what) {
    check(begun, what);
    check(cudaStreamSynchronize(nullptr), what);
  }
  Card card_;
  MemoryRanges allocated_;
};

}  // namespace

CudaStream::CudaStream(const Card& card, DeviceRuntime& runtime)
    : card_(&card), runtime_(&runtime), libraries_(std::make_unique<library::Libraries>()) {
  check(cudaSetDevice(card.index), "taking the GPU");
  check(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "a stream");
  check(cudaMalloc(&workspace_, workspace_bytes), "scratch memory of a stream");
  check(cudaMalloc(reinterpret_cast<void**>(&slots_), slot_bytes * num_slots), "slots of a stream");
  check(cudaHostAlloc(reinterpret_cast<void**>(&host_slots_), slot_bytes * num_slots, cudaHostAllocDefault),
        "pinned slots of a stream");
  for (cudaEvent_t& e : sent_) check(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), "an event");
}

CudaStream::~CudaStream() {
  cudaStreamSynchronize(handle_);
  libraries_.reset();
  for (cudaEvent_t e : sent_)
    if (e) cudaEventDestroy(e);
  cudaFreeHost(host_slots_);
  cudaFree(slots_);
  cudaFree(workspace_);
  cudaStreamDestroy(handle_);
}

void CudaStream::synchronize() {
  check(cudaStreamSynchronize(handle_), "work on the GPU");
}

std::unique_ptr<DeviceEvent> CudaStream::make_event() {
  return std::make_unique<CudaEvent>();
}

std::unique_ptr<DeviceClock> CudaStream::make_clock() {
  return std::make_unique<CudaClock>(*this);
}

const Operations& CudaStream::operations() const {
  return cuda::operations();
}

void CudaStream::copy(void* to, const void* from, std::int64_t bytes) {
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDefault, handle_), "a copy");
}

const void* CudaStream::upload_bytes(const void* values, std::int64_t bytes) const {
  FOURMI_CHECK(bytes <= slot_bytes, "a table of {} bytes", bytes);
  const std::int64_t slot = next_slot_++ % num_slots;
  check(cudaEventSynchronize(sent_[slot]), "a table on its way");  // the slot's last copy; long done
  std::byte* const host = host_slots_ + slot * slot_bytes;
  std::byte* const device = slots_ + slot * slot_bytes;
  std::memcpy(host, values, static_cast<std::size_t>(bytes));
  check(cudaMemcpyAsync(device, host, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice, handle_),
        "sending a table");
  check(cudaEventRecord(sent_[slot], handle_), "sending a table");
  return device;
}

void CudaStream::fetch_bytes(void* host, const void* device, std::int64_t bytes) const {
  check(cudaMemcpyAsync(host, device, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost, handle_), "a copy");
  check(cudaStreamSynchronize(handle_), "work on the GPU");
}

}  // namespace cuda

CudaDevices find_cuda_devices() {
  cuda::Supported s = cuda::find_supported();
  return {static_cast<int>(s.indices.size()), std::move(s.trouble)};
}

std::unique_ptr<DeviceRuntime> open_cuda_device(int index) {
  const cuda::Supported s = cuda::find_supported();
  if (index < 0 || index >= static_cast<int>(s.indices.size()))
    throw Error(ExitStatus::environment, "run.device",
                fmt::format("{} supported GPUs were found{}{}, at least {} were expected", s.indices.size(),
                            s.trouble.empty() ? "" : ": ", s.trouble, index + 1),
                "Use run.device: cpu, or fewer ranks on this node");
  return std::make_unique<cuda::CudaRuntime>(s.indices[static_cast<std::size_t>(index)]);
}

}  // namespace fourmi
