// The maximum over parts, element by element. Bound by memory: P elements are read and one is written; a call is for
// some numbers a row, so that the launch is what it costs.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/operations.h"
#include "kernels/ops/max_parts.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256;

template <class X>
__global__ void __launch_bounds__(threads)
    largest_part(const X* __restrict__ parts, X* __restrict__ y, std::int64_t num, std::int64_t size) {
  const std::int64_t step = std::int64_t{gridDim.x} * threads;
#pragma unroll 1
  for (std::int64_t i = std::int64_t{blockIdx.x} * threads + threadIdx.x; i < size; i += step) {
    X largest = parts[i];
#pragma unroll 4
    for (std::int64_t p = 1; p < num; ++p) {
      const X next = parts[p * size + i];
      if (next > largest || next != next) largest = next;  // a NaN stays: nothing compares above it
    }
    y[i] = largest;
  }
}

}  // namespace

void max_of_parts(const Stream& stream, const Tensor& parts_PC, const Tensor& y_C) {
  const Span span(stream.timeline(), Work::head, "max_of_parts");
  const std::int64_t num = parts_PC.dim(0), size = y_C.num_elements();
  FOURMI_CHECK(num > 0 && parts_PC.num_elements() == num * size && parts_PC.dtype == y_C.dtype,
               "the largest of {} into {}", to_string(parts_PC.shape), to_string(y_C.shape));
  visit_accumulator(y_C.dtype, "max_of_parts", [&]<class X>(std::type_identity<X>) {
    const X* const parts = pointer<X>(parts_PC);
    X* const y = pointer<X>(y_C);
    if (size == 0) return;
    launch(on(stream), largest_part<X>, num_blocks(size, threads, 16 * on(stream).card().num_multiprocessors), threads,
           0, parts, y, num, size);
  });
}

}  // namespace fourmi::cuda
