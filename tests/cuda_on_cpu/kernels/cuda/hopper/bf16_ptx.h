// In place of kernels/cuda/hopper/bf16_ptx.h: the same functions on the CPU (hopper_products.h).
#pragma once

#include "kernels/cuda/hopper/ptx.h"

namespace fourmi::cuda::hopper {

template <Along of_a, Along of_b, int size>
void multiply_add(float (&sum)[size], Operand a, Operand b) {
  static_assert(size == 64 || size == 128);
  on_cpu::multiply(sum, 2 * size, {a, b, true, on_cpu::Elements::bf16, of_a == Along::lines, of_b == Along::lines});
}
template <int pending>
void wait_products() {
  on_cpu::wait_products(pending);
}
template <int size>
void wait_all_products(float (&)[size]) {
  on_cpu::wait_products(0);
}

inline void show_writes_to_products(int warpgroup) {
  cuda_on_cpu::barrier(static_cast<unsigned>(1 + warpgroup), 128);
}

/// Reads both ends, so that memory of nobody is found.
inline void prefetch_bytes(const void* from, unsigned bytes) {
  on_cpu::require(reinterpret_cast<std::uintptr_t>(from) % 16 == 0 && bytes % 16 == 0 && bytes > 0,
                  "a prefetch of bytes is of multiples of 16");
  const volatile auto* const first = static_cast<const volatile std::byte*>(from);
  (void)first[0], (void)first[bytes - 1];
}

}  // namespace fourmi::cuda::hopper
