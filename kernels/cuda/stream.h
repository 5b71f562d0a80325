// A CUDA stream with what operations on it need beside their arguments: scratch memory, and a way for small tables from
// the host. One thread gives work to a stream.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <span>

#include "kernels/cuda/capability.h"
#include "kernels/cuda/check.h"
#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi::cuda {

namespace library {
class Libraries;
}

/// Of the card; read once.
struct Card {
  int index = 0;  ///< CUDA's
  int num_multiprocessors = 0;
  std::int64_t shared_bytes = 0;  ///< that a block may ask for
  std::int64_t l2_bytes = 0;
  std::string name;
  Capability capability;
};

class CudaStream final : public DeviceStream {
 public:
  CudaStream(const Card& card, DeviceRuntime& runtime);
  ~CudaStream() override;
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  void synchronize() override;
  std::unique_ptr<DeviceEvent> make_event() override;
  std::unique_ptr<DeviceClock> make_clock() override;
  DeviceRuntime& runtime() const override { return *runtime_; }
  const Operations& operations() const override;
  void copy(void* to, const void* from, std::int64_t bytes) override;
  void read(void* host, const void* device, std::int64_t bytes) override { fetch_bytes(host, device, bytes); }
  void write(void* device, const void* host, std::int64_t bytes) override { copy(device, host, bytes); }
  void* native() const override { return handle_; }

  cudaStream_t handle() const { return handle_; }
  const Card& card() const { return *card_; }

  /// Scratch memory of the device for one operation: what the operation before it left there is gone, its contents are
  /// undefined. Aligned to 256 bytes. More than `workspace_bytes` is a bug of the operation, which then has to work in
  /// pieces.
  static constexpr std::int64_t workspace_bytes = std::int64_t{64} << 20;
  template <class T>
  T* workspace(std::int64_t count) const {
    FOURMI_CHECK(count * static_cast<std::int64_t>(sizeof(T)) <= workspace_bytes, "{} elements of scratch", count);
    return static_cast<T*>(workspace_);
  }

  /// A small table of the host's (offsets of experts, for example) in device memory, for what the stream is given next:
  /// valid until `num_slots` more uploads. The host does not wait, and `values` may change as soon as it returns.
  static constexpr std::int64_t slot_bytes = 16 << 10, num_slots = 64;
  template <class T>
  const T* upload(std::span<const T> values) const {
    return static_cast<const T*>(upload_bytes(values.data(), static_cast<std::int64_t>(values.size_bytes())));
  }
  /// One value of the device's, after all work that was given before. The host waits.
  template <class T>
  T fetch(const T* device) const {
    T value;
    fetch_bytes(&value, device, sizeof(T));
    return value;
  }
  void fetch_bytes(void* host, const void* device, std::int64_t bytes) const;

  /// NVIDIA's libraries for this stream (library/libraries.h).
  library::Libraries& libraries() const { return *libraries_; }

 private:
  const void* upload_bytes(const void* values, std::int64_t bytes) const;

  const Card* card_;
  DeviceRuntime* runtime_;
  cudaStream_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::byte* slots_ = nullptr;       // of the device
  std::byte* host_slots_ = nullptr;  // pinned
  mutable cudaEvent_t sent_[num_slots] = {};
  mutable std::int64_t next_slot_ = 0;
  std::unique_ptr<library::Libraries> libraries_;
};

/// The CUDA stream behind a stream that came through a door.
inline const CudaStream& on(const Stream& stream) {
  return static_cast<const CudaStream&>(*stream.device());
}

}  // namespace fourmi::cuda
