// Attention in bf16 has an order of sums of its own (docs/numerics.md "Attention"), made for vdpbf16ps; f32 and f64
// have the plain one.
#pragma once

#include "kernels/cpu/attention_bf16.h"
#include "kernels/cpu/attention_segments.h"

namespace fourmi::attention {

/// Where a sum goes: rounded once, or as it is.
struct Bf16Result {
  bfloat16* rounded = nullptr;
  float* whole = nullptr;  ///< one of the two is null
  FOURMI_INLINE void put(std::int64_t at, float x) const {
    if (whole != nullptr)
      whole[at] = x;
    else
      rounded[at] = narrow<bfloat16>(x);
  }
};
inline Bf16Result result_of(const Tensor& x) {
  if (x.dtype == DType::f32) return {nullptr, x.as<float>()};
  return {x.as<bfloat16>(), nullptr};
}

void forward_bf16(const Stream& stream, const Bf16Problem& p, const Bf16Result& o, float* lse);

struct BackwardOperands {
  const bfloat16 *o, *d_o;
  const float* lse;
  Bf16Result dq, dk, dv;
};
void backward_bf16(const Stream& stream, const Bf16Problem& p, const BackwardOperands& operands,
                   const std::vector<Segment>& segments);

}  // namespace fourmi::attention
