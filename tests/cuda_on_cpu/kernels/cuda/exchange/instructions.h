// In place of kernels/cuda/exchange/instructions.h. Ranks are threads of the host: flags are atomic, and who waits lets
// the other threads of its kernel, and the other ranks, go on.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "kernels/cuda/lanes.h"
#include "tests/cuda_on_cpu/block.h"

namespace fourmi::cuda {

inline std::uint64_t load_acquire(const std::uint64_t* flag) {
  return std::atomic_ref(*const_cast<std::uint64_t*>(flag)).load(std::memory_order_acquire);
}
inline void store_release(std::uint64_t* flag, std::uint64_t value) {
  std::atomic_ref(*flag).store(value, std::memory_order_release);
}

using Vector16 = Vector<std::uint32_t, 4>;

inline Vector16 load_constant(const Vector16* p) {
  return *p;
}
inline Vector16 load_slot(const Vector16* p) {
  return *p;
}
inline void store_row(Vector16* p, const Vector16& v) {
  *p = v;
}

inline void meet(int id, int threads) {
  cuda_on_cpu::barrier(static_cast<unsigned>(id), static_cast<unsigned>(threads));
}

inline std::uint64_t nanoseconds() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count());
}
inline void pause() {
  if (cuda_on_cpu::lane() == 0) std::this_thread::yield();
  cuda_on_cpu::leave();
}

}  // namespace fourmi::cuda
