// The agent on the CPU: one thread, whose peers are threads of the same process or of others that map the same memory.
#pragma once

#include <atomic>
#include <cstring>

#include "kernels/exchange/ring.h"

namespace fourmi::exchange {

struct HostAgent {
  static constexpr int most_choices = 64;  ///< of a token

  std::uint64_t acquire(const std::uint64_t* flag) {
    return std::atomic_ref(*const_cast<std::uint64_t*>(flag)).load(std::memory_order_acquire);
  }
  void release(std::uint64_t* flag, std::uint64_t value) {
    std::atomic_ref(*flag).store(value, std::memory_order_release);
  }
  void copy(std::byte* to, const std::byte* from, std::int64_t bytes) {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
};

}  // namespace fourmi::exchange
