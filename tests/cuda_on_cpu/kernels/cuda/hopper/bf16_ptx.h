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

}  // namespace fourmi::cuda::hopper
