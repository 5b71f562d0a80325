// Parts of ranks added up in ascending order. Bound by memory: (parts + 1) elements moved for one written.
#include <array>

#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/operations.h"
#include "kernels/ops/sum_in_order.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256;

/// Vectors of n; n is 1 where an address or the size does not allow more.
template <class T, int n>
__global__ void __launch_bounds__(threads)
    sum(const T* const* __restrict__ parts, int num_parts, T* y, std::int64_t size, bool adds) {
  const std::int64_t step = std::int64_t{gridDim.x} * threads * n;
  for (std::int64_t i = (std::int64_t{blockIdx.x} * threads + threadIdx.x) * n; i < size; i += step) {
    Vector<T, n> running = load<n>(parts[0] + i);
    for (int p = 1; p < num_parts; ++p) {
      const Vector<T, n> next = load<n>(parts[p] + i);
#pragma unroll
      for (int k = 0; k < n; ++k) running.value[k] = running.value[k] + next.value[k];
    }
    if (adds) {
      const Vector<T, n> before = load<n>(y + i);
#pragma unroll
      for (int k = 0; k < n; ++k) running.value[k] = before.value[k] + running.value[k];
    }
    store<n>(y + i, running);
  }
}

template <class T>
void run(const CudaStream& s, std::span<const Tensor> parts, const Tensor& y, Into into) {
  constexpr int n = vector_length<T>;
  const std::int64_t size = y.num_elements();
  std::array<const T*, max_parts_in_order> pointers;
  const std::size_t num = parts.size();
  bool whole = is_vector_aligned<n>(pointer<T>(y), size);
  for (std::size_t p = 0; p < num; ++p) {
    pointers[p] = pointer<T>(parts[p]);
    whole = whole && is_vector_aligned<n>(pointers[p], size);
  }
  const T* const* const table = s.upload(std::span<const T* const>(pointers).first(num));
  const auto blocks = [&](std::int64_t each) { return num_blocks(size, each, 8 * s.card().num_multiprocessors); };
  if (whole)
    launch(s, sum<T, n>, blocks(threads * n), threads, 0, table, static_cast<int>(num), pointer<T>(y), size,
           into == Into::add);
  else
    launch(s, sum<T, 1>, blocks(threads), threads, 0, table, static_cast<int>(num), pointer<T>(y), size,
           into == Into::add);
}

}  // namespace

void sum_in_order(const Stream& stream, std::span<const Tensor> parts, const Tensor& y, Into into) {
  FOURMI_CHECK(!parts.empty() && std::ssize(parts) <= max_parts_in_order, "a sum of {} parts", parts.size());
  for (const Tensor& p : parts)
    FOURMI_CHECK(p.dtype == y.dtype && p.num_elements() == y.num_elements(), "a part {} {} of a sum into {} {}",
                 name_of(p.dtype), to_string(p.shape), name_of(y.dtype), to_string(y.shape));
  if (y.num_elements() == 0) return;
  if (y.dtype == DType::f32) return run<float>(on(stream), parts, y, into);
  if (y.dtype == DType::f64) return run<double>(on(stream), parts, y, into);
  FOURMI_CHECK(false, "a sum of {} on a GPU", name_of(y.dtype));
}

}  // namespace fourmi::cuda
