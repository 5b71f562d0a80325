// How one body of code becomes code for several instruction sets with equal bits: it is written once as FOURMI_INLINE
// templates and instantiated inside functions that carry a target attribute. Nothing that is inlined this way is ever
// emitted on its own, so no other file can pick up instructions that a machine may lack (docs/numerics.md, N2).
#pragma once

#ifdef __CUDACC__  // for host and device alike
#define FOURMI_INLINE __host__ __device__ inline __attribute__((always_inline))
#else
#define FOURMI_INLINE inline __attribute__((always_inline))
#endif

/// Functions that run only where has_isa(Isa::avx512). Lambdas inside do not inherit it.
#ifdef __clang__  // it has no such preference here
#define FOURMI_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#else
#define FOURMI_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,prefer-vector-width=512")))
#endif
