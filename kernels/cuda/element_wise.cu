// Conversions, zeros and additions, element by element. Bound by memory: convert reads and writes each element once,
// add_in_place reads two and writes one, fill_zero writes. A thread moves two vectors a round.
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/operations.h"
#include "kernels/numerics/rounding.h"
#include "kernels/ops/reduce.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256;
/// Elements of a vector: 16 bytes of the larger type, so that neighbouring lanes move neighbouring sectors by each
/// instruction.
template <class To, class From>
constexpr int width = 16 / static_cast<int>(std::max(sizeof(To), sizeof(From)));

/// Calls f(i, j) for the vectors i of this thread, two at a time so that both are under way; j is i where there is no
/// second one.
template <class F>
__device__ void for_pairs(std::int64_t count, const F& f) {
  const std::int64_t first = std::int64_t{blockIdx.x} * threads + threadIdx.x, step = std::int64_t{gridDim.x} * threads;
#pragma unroll 1
  for (std::int64_t i = first; i < count; i += 2 * step) f(i, i + step < count ? i + step : i);
}

template <int n, class To, class From>
__device__ Vector<To, n> converted(const Vector<From, n>& from) {
  Vector<To, n> to;
#pragma unroll
  for (int k = 0; k < n; ++k) to.value[k] = round_to<To>(from.value[k]);
  return to;
}
template <int n, class To, class From>
__global__ void __launch_bounds__(threads)
    convert_all(const From* __restrict__ src, To* __restrict__ dst, std::int64_t size) {
  for_pairs(size / n, [&](std::int64_t i, std::int64_t j) {
    const Vector<From, n> one = load<n>(src + i * n), other = load<n>(src + j * n);
    store<n>(dst + i * n, converted<n, To>(one));
    store<n>(dst + j * n, converted<n, To>(other));
  });
  const std::int64_t i = size / n * n + std::int64_t{blockIdx.x} * threads + threadIdx.x;
  if (i < size) dst[i] = round_to<To>(src[i]);
}

template <int n, class T>
__global__ void __launch_bounds__(threads) add_all(const T* __restrict__ src, T* __restrict__ dst, std::int64_t size) {
  for_pairs(size / n, [&](std::int64_t i, std::int64_t j) {
    const Vector<T, n> more[2] = {load<n>(src + i * n), load<n>(src + j * n)};
    Vector<T, n> sum[2] = {load<n>(dst + i * n), load<n>(dst + j * n)};
#pragma unroll
    for (int p = 0; p < 2; ++p)
#pragma unroll
      for (int k = 0; k < n; ++k) sum[p].value[k] += more[p].value[k];
    store<n>(dst + i * n, sum[0]);
    store<n>(dst + j * n, sum[1]);  // the same once more where j is i
  });
  const std::int64_t i = size / n * n + std::int64_t{blockIdx.x} * threads + threadIdx.x;
  if (i < size) dst[i] += src[i];
}

/// `vectors` or `singles`, as the addresses allow.
template <class To, class From>
void launch_over(const CudaStream& stream, void (*vectors)(const From*, To*, std::int64_t),
                 void (*singles)(const From*, To*, std::int64_t), const Tensor& src, const Tensor& dst) {
  const From* const from = pointer<From>(src);
  To* const to = pointer<To>(dst);
  const std::int64_t size = dst.num_elements();
  if (size == 0) return;
  constexpr int n = width<To, From>;
  const bool whole = is_vector_aligned<n>(from, 0) && is_vector_aligned<n>(to, 0);
  launch(stream, whole ? vectors : singles,
         num_blocks(size, 2 * (whole ? threads * n : threads), 64 * stream.card().num_multiprocessors), threads, 0,
         from, to, size);
}

}  // namespace

void convert(const Stream& stream, const Tensor& src, const Tensor& dst) {
  const Span span(stream.timeline(), Work::other, "convert");
  FOURMI_CHECK(src.num_elements() == dst.num_elements(), "{} converted into {}", to_string(src.shape),
               to_string(dst.shape));
  FOURMI_CHECK(src.dtype != DType::fx128, "fx128 converted to {}: mode layout on a GPU", name_of(dst.dtype));
  visit_float(dst.dtype, "convert", [&]<class To>(std::type_identity<To>) {
    visit_float(src.dtype, "convert", [&]<class From>(std::type_identity<From>) {
      launch_over<To, From>(on(stream), convert_all<width<To, From>, To, From>, convert_all<1, To, From>, src, dst);
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
    launch_over<T, T>(on(stream), add_all<width<T, T>, T>, add_all<1, T>, src, dst);
  });
}

}  // namespace fourmi::cuda
