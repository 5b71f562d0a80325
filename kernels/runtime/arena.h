// Named arenas: all memory of a run comes from one of them, and each can say what it holds.
//
// measure: no storage, allocation only adds up; this is how a run's exact memory is known before it starts.
// poison:  fresh memory is filled with NaN bytes, so that rows nobody wrote are found by tests.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/runtime/device.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// Where an arena's memory lies. Without a device both are the host's; what an arena of place `host` holds is brought
/// to the device panel by panel (framework/train/staging.h), here as there.
enum class Place : std::uint8_t { device, host };
constexpr const char* name_of(Place place) {
  return place == Place::host ? "host" : "device";
}

class Arena {
 public:
  enum class Mode { allocate, measure };
  struct Options {
    std::string name;
    Mode mode = Mode::allocate;
    bool poison = false;
    Place place = Place::device;
    DeviceRuntime* device = nullptr;  ///< null: the CPU. Outlives the arena
  };
  static constexpr std::int64_t alignment = 64;  ///< bytes; a cache line and an AVX-512 vector

  /// A measuring arena ignores `capacity`.
  Arena(Options options, std::int64_t capacity_bytes);
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();

  /// A contiguous tensor; `what` names it in the table. Throws Error(environment) with the table when full.
  /// In measure mode the tensor has a shape and no data.
  Tensor allocate(Shape shape, DType dtype, std::string_view what);

  /// A small table that the host reads and writes beside its work: the same on the CPU; with a device it is memory of
  /// the host's, which no figure of this arena counts and release() leaves alone.
  Tensor allocate_table(Shape shape, DType dtype, std::string_view what);

  /// Stack discipline for memory that lives for a phase: everything allocated after mark() is given back by release().
  std::int64_t mark() const { return used_; }
  void release(std::int64_t mark);

  const std::string& name() const { return options_.name; }
  /// Whose memory its tensors are.
  Device device() const { return options_.device && options_.place == Place::device ? Device::cuda : Device::cpu; }
  Place place() const { return options_.place; }
  DeviceRuntime* runtime() const { return options_.device; }
  bool measuring() const { return options_.mode == Mode::measure; }
  std::int64_t used() const { return used_; }
  std::int64_t peak() const { return peak_; }
  std::int64_t capacity() const { return capacity_; }
  /// What was allocated, bytes by name, for the message that a full arena prints.
  std::string table() const;

 private:
  void fill(std::int64_t begin, std::int64_t end);  // with poison
  Options options_;
  std::int64_t capacity_ = 0, used_ = 0, peak_ = 0;
  std::byte* storage_ = nullptr;
  std::map<std::string, std::int64_t, std::less<>> by_name_;
  std::vector<std::unique_ptr<std::byte[]>> tables_;
};

}  // namespace fourmi
