// Conversions, zeros and additions, element by element. Bound by memory: convert reads and writes each element once,
// add_in_place reads two and writes one, fill_zero writes. A thread moves eight elements a round.
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/operations.h"
#include "kernels/numerics/rounding.h"
#include "kernels/ops/reduce.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256, width = 8;

template <int n, class To, class From>
__global__ void __launch_bounds__(threads)
    convert_all(const From* __restrict__ src, To* __restrict__ dst, std::int64_t size) {
  const std::int64_t first = std::int64_t{blockIdx.x} * threads + threadIdx.x, step = std::int64_t{gridDim.x} * threads;
#pragma unroll 1
  for (std::int64_t i = first; i < size / n; i += step) {
    const Vector<From, n> from = load<n>(src + i * n);
    Vector<To, n> to;
#pragma unroll
    for (int k = 0; k < n; ++k) to.value[k] = round_to<To>(from.value[k]);
    store<n>(dst + i * n, to);
  }
  for (std::int64_t i = size / n * n + first; i < size; i += step) dst[i] = round_to<To>(src[i]);
}

template <int n, class T>
__global__ void __launch_bounds__(threads) add_all(const T* __restrict__ src, T* __restrict__ dst, std::int64_t size) {
  const std::int64_t first = std::int64_t{blockIdx.x} * threads + threadIdx.x, step = std::int64_t{gridDim.x} * threads;
#pragma unroll 1
  for (std::int64_t i = first; i < size / n; i += step) {
    const Vector<T, n> more = load<n>(src + i * n);
    Vector<T, n> sum = load<n>(dst + i * n);
#pragma unroll
    for (int k = 0; k < n; ++k) sum.value[k] += more.value[k];
    store<n>(dst + i * n, sum);
  }
  for (std::int64_t i = size / n * n + first; i < size; i += step) dst[i] += src[i];
}

/// `vectors` or `singles`, as the addresses allow.
template <class To, class From>
void launch_over(const CudaStream& stream, void (*vectors)(const From*, To*, std::int64_t),
                 void (*singles)(const From*, To*, std::int64_t), const Tensor& src, const Tensor& dst) {
  const From* const from = pointer<From>(src);
  To* const to = pointer<To>(dst);
  const std::int64_t size = dst.num_elements();
  if (size == 0) return;
  const bool whole = is_vector_aligned<width>(from, 0) && is_vector_aligned<width>(to, 0);
  launch(stream, whole ? vectors : singles,
         num_blocks(size, whole ? threads * width : threads, 64 * stream.card().num_multiprocessors), threads, 0, from,
         to, size);
}

}  // namespace

void convert(const Stream& stream, const Tensor& src, const Tensor& dst) {
  const Span span(stream.timeline(), Work::other, "convert");
  FOURMI_CHECK(src.num_elements() == dst.num_elements(), "{} converted into {}", to_string(src.shape),
               to_string(dst.shape));
  FOURMI_CHECK(src.dtype != DType::fx128, "fx128 converted to {}: mode layout on a GPU", name_of(dst.dtype));
  visit_float(dst.dtype, "convert", [&]<class To>(std::type_identity<To>) {
    visit_float(src.dtype, "convert", [&]<class From>(std::type_identity<From>) {
      launch_over<To, From>(on(stream), convert_all<width, To, From>, convert_all<1, To, From>, src, dst);
    });
  });
}

void fill_zero(const Stream& stream, const Tensor& x) {
  const Span span(stream.timeline(), Work::other, "fill_zero");
  std::byte* const data = bytes(x);
  if (x.bytes() == 0) return;
  check(cudaMemsetAsync(data, 0, static_cast<std::size_t>(x.bytes()), on(stream).handle()), "filling with zeros");
}

void add_in_place(const Stream& stream, const Tensor& src, const Tensor& dst) {
  const Span span(stream.timeline(), Work::other, "add_in_place");
  FOURMI_CHECK(src.dtype == dst.dtype && src.num_elements() == dst.num_elements(), "{} {} added to {} {}",
               name_of(src.dtype), to_string(src.shape), name_of(dst.dtype), to_string(dst.shape));
  FOURMI_CHECK(dst.dtype != DType::fx128, "fx128 added: mode layout on a GPU");
  visit_accumulator(dst.dtype, "add_in_place", [&]<class T>(std::type_identity<T>) {
    launch_over<T, T>(on(stream), add_all<width, T>, add_all<1, T>, src, dst);
  });
}

}  // namespace fourmi::cuda
