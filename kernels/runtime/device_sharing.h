// Device memory that several processes of a host reach. A DeviceRuntime that can give it is this too (dynamic_cast).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace fourmi {

class DeviceSharing {
 public:
  /// What another process opens; goes to it as bytes.
  struct Handle {
    std::array<std::byte, 64> bytes{};  ///< of a whole allocation
    std::int64_t offset = 0;            ///< into it
  };
  virtual ~DeviceSharing() = default;
  /// Where on its host the device is, at most 31 characters: "0000:1b:00.0".
  virtual std::string bus_address() const = 0;
  /// False: it is known that this device does not read and write the memory of that one.
  virtual bool may_reach(const std::string& bus_address) const = 0;
  /// Of memory that allocate() gave, or a part of it. Throws Error(environment).
  virtual Handle share(const void* memory) = 0;
  /// Memory that another process shared; until close(), which comes before that process frees it.
  /// Throws Error(environment).
  virtual std::byte* open(const Handle& handle) = 0;
  virtual void close(std::byte* opened, const Handle& handle) noexcept = 0;

  /// The version of NCCL (22809) whose windows code of this build reads on the device; 0: of none.
  virtual int version_of_windows() const { return 0; }
  /// Where each rank of the load/store team of an ncclWindow_t has it.
  virtual void read_window_addresses([[maybe_unused]] void* window, [[maybe_unused]] std::span<std::byte*> addresses) {}
};

}  // namespace fourmi
