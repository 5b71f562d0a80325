// Neighbouring values held as they lie in memory: of bf16 two share a register until they are used, so that a thread
// can hold many. For .cu files.
#pragma once

#include <type_traits>

#include "kernels/cuda/bfloat16_instructions.h"
#include "kernels/cuda/lanes.h"

namespace fourmi::cuda {

/// n values; for bf16 n is even or 1.
template <class X, int n>
struct Packed {
  static constexpr bool pairs = sizeof(X) == 2 && n > 1;
  using T = Accumulator<X>;
  using Word = std::conditional_t<pairs, std::uint32_t, X>;
  static constexpr int num_words = pairs ? n / 2 : n;
  Vector<Word, num_words> words;

  __device__ T at(int k) const {
    if constexpr (pairs) {
      const std::uint32_t both = words.value[k / 2];
      return __uint_as_float(k % 2 == 0 ? both << 16 : both & 0xffff0000u);
    } else {
      return widen<T>(words.value[k]);
    }
  }
};

/// Each rounded once.
template <class X, int n>
__device__ Packed<X, n> pack(const Accumulator<X> (&v)[n]) {
  Packed<X, n> p;
#pragma unroll
  for (int i = 0; i < p.num_words; ++i) {
    if constexpr (p.pairs)
      p.words.value[i] = bfloat16_of_pair(v[2 * i], v[2 * i + 1]);
    else
      p.words.value[i] = narrow<X>(v[i]);
  }
  return p;
}

/// `p` is aligned to n values (is_vector_aligned).
template <int n, class X>
__device__ Packed<X, n> load_packed(const X* p) {
  using P = Packed<X, n>;
  return {load<P::num_words>(reinterpret_cast<const typename P::Word*>(p))};
}
template <int n, class X>
__device__ void store_packed(X* p, const Packed<X, n>& v) {
  store(reinterpret_cast<typename Packed<X, n>::Word*>(p), v.words);
}

/// The first `valid` of them, at any address; what is behind becomes zeros (load) or stays (store).
template <int n, class X>
__device__ Packed<X, n> load_some(const X* p, int valid) {
  Packed<X, n> v{};
#pragma unroll
  for (int k = 0; k < n; ++k) {
    if constexpr (v.pairs) {
      if (k < valid) v.words.value[k / 2] |= std::uint32_t{p[k].bits} << (k % 2 * 16);
    } else {
      if (k < valid) v.words.value[k] = p[k];
    }
  }
  return v;
}
template <int n, class X>
__device__ void store_some(X* p, int valid, const Packed<X, n>& v) {
#pragma unroll
  for (int k = 0; k < n; ++k) {
    if constexpr (v.pairs) {
      if (k < valid) p[k] = X::from_bits(static_cast<std::uint16_t>(v.words.value[k / 2] >> (k % 2 * 16)));
    } else {
      if (k < valid) p[k] = v.words.value[k];
    }
  }
}

}  // namespace fourmi::cuda
