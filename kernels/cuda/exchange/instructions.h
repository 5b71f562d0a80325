// What a kernel that talks to other ranks' kernels needs of the card, one thin function an instruction: flags that the
// whole system sees, vectors of rows, a barrier of some warps of a block, a clock. The emulated card has its own
// (tests/cuda_on_cpu/kernels/cuda). For .cu files.
#pragma once

#include <cstdint>

#include "kernels/cuda/lanes.h"

namespace fourmi::cuda {

/// What was written before the value was released, by whomever, can be read by this thread from here on.
__device__ inline std::uint64_t load_acquire(const std::uint64_t* flag) {
  std::uint64_t value;
  asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(flag) : "memory");
  return value;
}
/// After all that this thread wrote or read, and all that it knows of by barriers.
__device__ inline void store_release(std::uint64_t* flag, std::uint64_t value) {
  asm volatile("st.release.sys.global.u64 [%0], %1;" ::"l"(flag), "l"(value) : "memory");
}

using Vector16 = Vector<std::uint32_t, 4>;

/// 16 bytes that nobody writes while the kernel runs.
__device__ inline Vector16 load_constant(const Vector16* p) {
  Vector16 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.value[0]), "=r"(v.value[1]), "=r"(v.value[2]), "=r"(v.value[3])
               : "l"(p));
  return v;
}
/// 16 bytes that another rank wrote: an ordinary load, which what was acquired comes before. (ld.global.nc reads what
/// may be old.)
__device__ inline Vector16 load_slot(const Vector16* p) {
  Vector16 v;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.value[0]), "=r"(v.value[1]), "=r"(v.value[2]), "=r"(v.value[3])
               : "l"(p)
               : "memory");
  return v;
}
__device__ inline void store_row(Vector16* p, const Vector16& v) {
  asm volatile("st.global.L1::no_allocate.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.value[0]), "r"(v.value[1]),
               "r"(v.value[2]), "r"(v.value[3])
               : "memory");
}

/// Threads of whole warps of a block come together; ids are 1 to 15.
__device__ inline void meet(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// By one clock of the card.
__device__ inline std::uint64_t nanoseconds() {
  std::uint64_t t;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
  return t;
}
/// Leaves the memory to others for a moment.
__device__ inline void pause() {
  __nanosleep(64);
}

}  // namespace fourmi::cuda
