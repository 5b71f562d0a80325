// Which memory an allocator has given out, for who holds a pointer and asks whose it is. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>

namespace fourmi {

class MemoryRanges {
 public:
  void add(const void* memory, std::int64_t bytes) {
    const std::scoped_lock lock(mutex_);
    ends_[address(memory)] = address(memory) + static_cast<std::uintptr_t>(bytes);
  }
  /// What add() was given; null and strangers are passed over.
  void remove(const void* memory) {
    const std::scoped_lock lock(mutex_);
    ends_.erase(address(memory));
  }
  bool contains(const void* memory) const {
    const std::scoped_lock lock(mutex_);
    const auto behind = ends_.upper_bound(address(memory));
    return behind != ends_.begin() && address(memory) < std::prev(behind)->second;
  }
  /// Bytes from where the allocation that this lies in begins; below 0 for strangers.
  std::int64_t offset_of(const void* memory) const {
    if (!contains(memory)) return -1;
    const std::scoped_lock lock(mutex_);
    return static_cast<std::int64_t>(address(memory) - std::prev(ends_.upper_bound(address(memory)))->first);
  }

 private:
  static std::uintptr_t address(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }
  mutable std::mutex mutex_;
  std::map<std::uintptr_t, std::uintptr_t> ends_;  // by first byte
};

}  // namespace fourmi
