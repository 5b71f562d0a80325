// What all forms of SwiGLU share, an element above all. Where the result is rounded to bf16 or e4m3 the sigmoid is four
// instructions (fast_math.h); else it is the CPU's, to the bit. For .cu files.
#pragma once

#include "kernels/cuda/fast_math.h"
#include "kernels/cuda/launch.h"
#include "kernels/numerics/math.h"

namespace fourmi::cuda {

/// 0 from -87.34 down, where the reciprocal would be a denormal.
__device__ inline float fast_sigmoid(float x) {
  constexpr float log2_e = 0x1.715476p+0F;
  return fast_reciprocal(1.0F + fast_exp2(x * -log2_e));
}

template <bool fast, class T>
__device__ T swiglu(T gate, T up) {
  if constexpr (fast)
    return gate * fast_sigmoid(gate) * up;
  else
    return silu(gate) * up;
}

template <class T>
struct Gradient {
  T gate, up;
};
template <bool fast, class T>
__device__ Gradient<T> swiglu_gradient(T gate, T up, T dy) {
  T s;
  if constexpr (fast)
    s = fast_sigmoid(gate);
  else
    s = sigmoid(gate);
  const T activated = gate * s;
  return {dy * up * fma(activated, T{1} - s, s), dy * activated};
}

inline void check_swiglu(const Tensor& gate_up, const Tensor& h, std::int64_t rows) {
  FOURMI_CHECK(gate_up.dim(1) == 2 * h.dim(1) && 0 <= rows && rows <= gate_up.dim(0) && rows <= h.dim(0),
               "{} rows of gate_up {}, h {}", rows, to_string(gate_up.shape), to_string(h.shape));
  FOURMI_CHECK(h.dim(1) <= std::int64_t{1} << 28, "rows of {} columns", h.dim(1));  // places in a row have 32 bits
}

}  // namespace fourmi::cuda
