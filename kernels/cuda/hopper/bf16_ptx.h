// Hopper's products of bf16 operands, thin functions over PTX as in ptx.h, with a twin in tests/cuda_on_cpu. For .cu
// files.
#pragma once

#include "kernels/cuda/hopper/ptx.h"

namespace fourmi::cuda::hopper {

#define FOURMI_FOUR(how, i) how(sum[i]), how(sum[i + 1]), how(sum[i + 2]), how(sum[i + 3])
#define FOURMI_SIXTEEN(how, i) \
  FOURMI_FOUR(how, i), FOURMI_FOUR(how, i + 4), FOURMI_FOUR(how, i + 8), FOURMI_FOUR(how, i + 12)
#define FOURMI_SIXTY_FOUR(how, i) \
  FOURMI_SIXTEEN(how, i), FOURMI_SIXTEEN(how, i + 16), FOURMI_SIXTEEN(how, i + 32), FOURMI_SIXTEEN(how, i + 48)
#define FOURMI_FIRST_64                                                              \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FOURMI_SECOND_64                                                                         \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

/// Begins sum += a b^T of bf16 elements: a [64, 16] and b [columns, 16]. Warp w of the four has rows 16 w + lane / 4
/// and 8 more, columns 8 i + 2 (lane % 4) and 1 more, which are sum[4 i], sum[4 i + 1], and for the second row sum[4 i
/// + 2], sum[4 i + 3].
template <Along of_a, Along of_b, int size>
__device__ void multiply_add(float (&sum)[size], Operand a, Operand b) {
  constexpr int turned_a = of_a == Along::lines, turned_b = of_b == Along::lines;
  if constexpr (size == 64)
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" FOURMI_FIRST_64
                 "}, %64, %65, 1, 1, 1, %66, %67;"
                 : FOURMI_SIXTY_FOUR("+f", 0)
                 : "l"(a), "l"(b), "n"(turned_a), "n"(turned_b)
                 : "memory");
  else
    asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" FOURMI_FIRST_64 ", " FOURMI_SECOND_64
                 "}, %128, %129, 1, 1, 1, %130, %131;"
                 : FOURMI_SIXTY_FOUR("+f", 0), FOURMI_SIXTY_FOUR("+f", 64)
                 : "l"(a), "l"(b), "n"(turned_a), "n"(turned_b)
                 : "memory");
}
/// Waits until at most `pending` groups are under way; no sum may be read for it.
template <int pending>
__device__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}
/// Waits for all, whose sums are `sum`.
template <int size>
__device__ void wait_all_products(float (&sum)[size]) {
  if constexpr (size == 64)
    asm volatile("wgmma.wait_group.sync.aligned 0;" : FOURMI_SIXTY_FOUR("+f", 0)::"memory");
  else
    asm volatile("wgmma.wait_group.sync.aligned 0;"
                 : FOURMI_SIXTY_FOUR("+f", 0), FOURMI_SIXTY_FOUR("+f", 64)::"memory");
}

#undef FOURMI_SECOND_64
#undef FOURMI_FIRST_64
#undef FOURMI_SIXTY_FOUR
#undef FOURMI_SIXTEEN
#undef FOURMI_FOUR

/// All threads of warpgroup `warpgroup`: what they wrote to shared memory by ordinary instructions is what their
/// products read from here on.
__device__ inline void show_writes_to_products(int warpgroup) {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  asm volatile("bar.sync %0, 128;" ::"r"(1 + warpgroup) : "memory");
}

}  // namespace fourmi::cuda::hopper
