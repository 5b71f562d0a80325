// In place of kernels/cuda/hopper/ptx.h: the same functions on the CPU (hopper_copies.h, hopper_products.h).
#pragma once

#include "kernels/cuda/hopper/encoded_map.h"
#include "kernels/cuda/hopper/operand.h"
#include "kernels/numerics/bfloat16.h"
#include "tests/cuda_on_cpu/hopper_products.h"

namespace fourmi::cuda::hopper {

namespace on_cpu = cuda_on_cpu::hopper;

using on_cpu::shared_address;

using Barrier = std::uint64_t;

inline void init(Barrier* b, unsigned arrivals) {
  on_cpu::init(b, arrivals);
}
inline void fence_init() {
  on_cpu::copy_engine().fenced = true;
}
inline void arrive(Barrier* b) {
  on_cpu::arrive_expecting(b, 0);
}
inline void arrive_expecting(Barrier* b, unsigned bytes) {
  on_cpu::arrive_expecting(b, bytes);
}
inline void wait(Barrier* b, unsigned parity) {
  on_cpu::wait(b, parity);
}

inline void prefetch(const TensorMap*) {}
template <class... At>
void load_box(const TensorMap* map, void* to, Barrier* b, At... at) {
  const MappedTensor& m = map->tensor;
  on_cpu::require(m.rank == sizeof...(at), "a box of another rank than its map");
  on_cpu::require(shared_address(to) % (m.swizzle == Swizzle::none ? 128 : 8 * swizzle_span(m.swizzle)) == 0,
                  "a box that does not begin where it must in shared memory");
  on_cpu::begin_copy({m, {at...}, nullptr, shared_address(to), m.box_bytes(), b});
}
inline void load_bytes(const void* from, void* to, Barrier* b, unsigned bytes) {
  on_cpu::require(reinterpret_cast<std::uintptr_t>(from) % 16 == 0 && shared_address(to) % 16 == 0 && bytes % 16 == 0,
                  "a copy of bytes is of multiples of 16");
  on_cpu::begin_copy({{}, {}, static_cast<const std::byte*>(from), shared_address(to), bytes, b});
}

inline void fence_products() {
  on_cpu::products().fenced = true;
}
inline void commit_products() {
  auto& p = on_cpu::products();
  p.groups.push_back(std::move(p.begun));
  p.begun.clear();
}
inline void multiply_64_128_32(float (&sum)[64], Operand a, Operand b) {
  on_cpu::multiply(sum, 128, {a, b, false});
}
inline void multiply_add_64_128_32(float (&sum)[64], Operand a, Operand b) {
  on_cpu::multiply(sum, 128, {a, b, true});
}
template <int pending>
void wait_products(float (&)[64]) {
  on_cpu::wait_products(pending);
}

template <int registers>
void take_registers() {
  static_assert(registers % 8 == 0 && registers >= 24 && registers <= 256);
  __syncwarp();
}
template <int registers>
void give_registers() {
  take_registers<registers>();
}

inline bool elected() {
  __syncwarp();
  return cuda_on_cpu::lane() == 0;
}

inline std::uint32_t round_to_bfloat16(float first, float second) {
  return bfloat16(first).bits | std::uint32_t{bfloat16(second).bits} << 16;
}

/// Reads both ends, so that memory of nobody is found.
inline void prefetch_bytes(const void* from, unsigned bytes) {
  on_cpu::require(reinterpret_cast<std::uintptr_t>(from) % 16 == 0 && bytes % 16 == 0 && bytes > 0,
                  "a prefetch of bytes is of multiples of 16");
  const volatile auto* const first = static_cast<const volatile std::byte*>(from);
  (void)first[0], (void)first[bytes - 1];
}

}  // namespace fourmi::cuda::hopper
