// Hopper's asynchronous machinery, one thin function an instruction: barriers that count arrivals and bytes, copies of
// boxes by the copy engine, products of whole warpgroups, and registers that move from one warpgroup to another. What
// each does exactly is in NVIDIA's PTX ISA. tests/cuda_on_cpu has a twin of this file that does the same on the CPU and
// finds what breaks the protocol. For .cu files.
#pragma once

#include <cstdint>

#include "kernels/cuda/hopper/encoded_map.h"
#include "kernels/cuda/hopper/operand.h"

namespace fourmi::cuda::hopper {

/// The 32-bit address of shared memory that instructions take.
__device__ inline std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

/// In shared memory. A phase ends when so many threads have arrived and all bytes that were announced have come; then
/// the next one begins. Phases have parity 0, 1, 0, ...
using Barrier = std::uint64_t;

__device__ inline void init(Barrier* b, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(arrivals) : "memory");
}
/// After init(), by the same thread, before a barrier of the block: so that the copy engine sees the barriers.
__device__ inline void fence_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ inline void arrive(Barrier* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}
/// Arrives, and announces bytes that copies will bring in this phase.
__device__ inline void arrive_expecting(Barrier* b, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes)
               : "memory");
}
/// Waits for the end of the phase of this parity: the one that runs, or else the one before, which has ended.
__device__ inline void wait(Barrier* b, unsigned parity) {
  std::uint32_t done = 0;
  while (done == 0) {
    asm volatile(
        "{\n"
        ".reg .pred ended;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
        "selp.u32 %0, 1, 0, ended;\n"
        "}"
        : "=r"(done)
        : "r"(shared_address(b)), "r"(parity)
        : "memory");
  }
}

/// Brings what an operation of the copy engine will read of the map closer.
__device__ inline void prefetch(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<std::uint64_t>(map)) : "memory");
}
/// Copies the box at these elements (innermost dim first) to shared memory; its bytes arrive at the barrier.
__device__ inline void load_box(const TensorMap* map, void* to, Barrier* b, int at_0, int at_1) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
          shared_address(to)),
      "l"(reinterpret_cast<std::uint64_t>(map)), "r"(shared_address(b)), "r"(at_0), "r"(at_1)
      : "memory");
}
__device__ inline void load_box(const TensorMap* map, void* to, Barrier* b, int at_0, int at_1, int at_2) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
      "[%2];" ::"r"(shared_address(to)),
      "l"(reinterpret_cast<std::uint64_t>(map)), "r"(shared_address(b)), "r"(at_0), "r"(at_1), "r"(at_2)
      : "memory");
}
__device__ inline void load_box(const TensorMap* map, void* to, Barrier* b, int at_0, int at_1, int at_2, int at_3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], "
      "[%2];" ::"r"(shared_address(to)),
      "l"(reinterpret_cast<std::uint64_t>(map)), "r"(shared_address(b)), "r"(at_0), "r"(at_1), "r"(at_2), "r"(at_3)
      : "memory");
}
/// Copies consecutive bytes: a multiple of 16, from and to multiples of 16.
__device__ inline void load_bytes(const void* from, void* to, Barrier* b, unsigned bytes) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(to)),
               "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(b))
               : "memory");
}

/// Before the first product, and between what ordinary instructions did to its sums and a product: all threads of the
/// warpgroup, as of the three functions below.
__device__ inline void fence_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
/// What was begun since the last commit is one group.
__device__ inline void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

#define FOURMI_FOUR(how, i) how(sum[i]), how(sum[i + 1]), how(sum[i + 2]), how(sum[i + 3])
#define FOURMI_SIXTEEN(how, i) \
  FOURMI_FOUR(how, i), FOURMI_FOUR(how, i + 4), FOURMI_FOUR(how, i + 8), FOURMI_FOUR(how, i + 12)
#define FOURMI_SUMS(how) \
  FOURMI_SIXTEEN(how, 0), FOURMI_SIXTEEN(how, 16), FOURMI_SIXTEEN(how, 32), FOURMI_SIXTEEN(how, 48)
#define FOURMI_MULTIPLY(accumulate)                                                  \
  "{\n"                                                                              \
  ".reg .pred accumulate;\n"                                                         \
  "setp.ne.b32 accumulate, " accumulate                                              \
  ", 0;\n"                                                                           \
  "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 {"                          \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"   \
  "}, %64, %65, accumulate, 1, 1;\n"                                                 \
  "}"

/// Begins sum = a b^T of e4m3 elements: a [64, 32] and b [128, 32] in shared memory (operand.h). Warp w of the four has
/// rows 16 w + lane / 4 and 8 more, columns 8 i + 2 (lane % 4) and 1 more, which are sum[4 i], sum[4 i + 1], and for
/// the second row sum[4 i + 2], sum[4 i + 3].
__device__ inline void multiply_64_128_32(float (&sum)[64], Operand a, Operand b) {
  asm volatile(FOURMI_MULTIPLY("0") : FOURMI_SUMS("=f") : "l"(a), "l"(b) : "memory");
}
/// sum += a b^T
__device__ inline void multiply_add_64_128_32(float (&sum)[64], Operand a, Operand b) {
  asm volatile(FOURMI_MULTIPLY("1") : FOURMI_SUMS("+f") : "l"(a), "l"(b) : "memory");
}
/// Waits until at most `pending` groups are under way. The sums of the others are `sum`, which so may be read.
template <int pending>
__device__ void wait_products(float (&sum)[64]) {
  asm volatile("wgmma.wait_group.sync.aligned %64;" : FOURMI_SUMS("+f") : "n"(pending) : "memory");
}

#undef FOURMI_MULTIPLY
#undef FOURMI_SUMS
#undef FOURMI_SIXTEEN
#undef FOURMI_FOUR

/// All threads of a warpgroup: from here on each has so many registers, a multiple of 8 up to 256.
template <int registers>
__device__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
__device__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}

/// True in one lane of the warp, all of which are here.
__device__ inline bool elected() {
  std::uint32_t mine;
  asm volatile(
      "{\n"
      ".reg .pred elected;\n"
      "elect.sync _|elected, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, elected;\n"
      "}"
      : "=r"(mine));
  return mine != 0;
}

/// Two values rounded to bf16 (nearest, ties to even), the first one in the lower half.
__device__ inline std::uint32_t round_to_bfloat16(float first, float second) {
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

/// Asks the L2 cache for consecutive bytes that will be read: a multiple of 16, from a multiple of 16 on.
__device__ inline void prefetch_bytes(const void* from, unsigned bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(from)), "r"(bytes)
               : "memory");
}

}  // namespace fourmi::cuda::hopper
