// What is added to a token's sum: of the rows' dtype, or of the accumulator's. For .cu files.
#pragma once

#include "kernels/cuda/row_threads.h"

namespace fourmi::cuda {

/// [M, D] of T, or (wide) of its accumulator; null: absent. May be the memory that the sum is written to.
struct Addend {
  const std::byte* data;
  bool wide;
};

/// sum += n values of it.
template <class T, class A, int n>
__device__ void add(const Addend& x, std::int64_t at, A (&sum)[n]) {
  if (x.data == nullptr) return;
  A v[n];
  if (x.wide)
    load_values(reinterpret_cast<const A*>(x.data) + at, v);
  else
    load_values(reinterpret_cast<const T*>(x.data) + at, v);
#pragma unroll
  for (int i = 0; i < n; ++i) sum[i] += v[i];
}

template <class T>
Addend addend_of(const Tensor& x) {
  return {bytes(x), x && x.dtype != dtype_of<T>};
}

/// Can rows of `size` values of it be read by whole vectors of T or of its accumulator?
template <class T>
bool has_whole_vectors_of(const Tensor& x, std::int64_t size) {
  if (!x) return true;
  return x.dtype == dtype_of<T> ? has_whole_vectors(pointer<T>(x), size)
                                : has_whole_vectors(pointer<Accumulator<T>>(x), size);
}

}  // namespace fourmi::cuda
