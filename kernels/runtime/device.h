// What a device with memory of its own brings: memory, streams, events. kernels/cuda implements it for GPUs; tests have
// one that is emulated on the CPU (tests/emulated_device), so that everything above runs and is checked without a card.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace fourmi {

struct Operations;  // kernels/ops/operations.h
class DeviceStream;
class DeviceRuntime;
class SpanObserver;  // kernels/runtime/timeline.h

/// When a stream's work reached points of it, by the device's clock.
class DeviceClock {
 public:
  virtual ~DeviceClock() = default;
  /// A point behind the work that the stream was given so far; its number, from 0.
  virtual std::int32_t mark() = 0;
  /// Waits for all points; when each was reached, in nanoseconds of the host's steady clock (in which the first point
  /// is when it was made). Forgets them.
  virtual const std::vector<std::int64_t>& read() = 0;
};

/// A point in a stream's work.
class DeviceEvent {
 public:
  virtual ~DeviceEvent() = default;
  virtual void record(DeviceStream&) = 0;
  virtual void wait(DeviceStream&) = 0;  ///< what that stream is given from here on comes after it
  virtual void synchronize() = 0;        ///< the host waits
};

/// Work that runs in the order in which it is given, beside the host.
class DeviceStream {
 public:
  virtual ~DeviceStream() = default;
  /// The host waits for all work. Throws Error(environment) if any of it failed.
  virtual void synchronize() = 0;
  virtual std::unique_ptr<DeviceEvent> make_event() = 0;
  /// Of this stream; null: a device without one. Must not outlive it.
  virtual std::unique_ptr<DeviceClock> make_clock() { return nullptr; }
  virtual DeviceRuntime& runtime() const = 0;  ///< that made it
  /// What operations (kernels/ops) do on this device.
  virtual const Operations& operations() const = 0;
  /// Bytes from device memory to device memory, of other devices of this process too.
  virtual void copy(void* to, const void* from, std::int64_t bytes) = 0;
  /// Bytes to the host, which waits for them and for all work before; from host memory that copies reach
  /// (allocate_host), which stays as it is until the stream has come to it.
  virtual void read(void* host, const void* device, std::int64_t bytes) = 0;
  virtual void write(void* device, const void* host, std::int64_t bytes) = 0;
  /// As the device's own libraries call it: a cudaStream_t.
  virtual void* native() const = 0;
};

class DeviceRuntime {
 public:
  virtual ~DeviceRuntime() = default;
  virtual std::string name() const = 0;
  /// Zeroed, aligned to 256 bytes. Throws Error(environment) where it cannot be had; `what` names who wants it.
  virtual void* allocate(std::int64_t bytes, const std::string& what) = 0;
  virtual void release(void* memory) noexcept = 0;
  /// Is this in what allocate() gave?
  virtual bool owns(const void* memory) const = 0;
  /// Host memory that copies reach without the host's help.
  virtual void* allocate_host(std::int64_t bytes, const std::string& what) = 0;
  virtual void release_host(void* memory) noexcept = 0;
  /// Every byte of device memory; bytes from the host to the device, and back. After all work that streams were given
  /// before, and the host waits: for what is done once, not in a step.
  virtual void fill(void* memory, int byte, std::int64_t bytes) = 0;
  virtual void write(void* device, const void* host, std::int64_t bytes) = 0;
  virtual void read(void* host, const void* device, std::int64_t bytes) = 0;
  virtual std::unique_ptr<DeviceStream> make_stream() = 0;
  /// The device's profiler, which timelines tell of their spans; null: none listens.
  virtual SpanObserver* span_observer() { return nullptr; }
};

}  // namespace fourmi
