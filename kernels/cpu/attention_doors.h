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
  /// n values from * factor, beginning at element `at`; with `plus_zero` of from + 0, so that a zero is +0. One loop
  /// for each kind: a choice inside would keep it from the vector units.
  template <bool plus_zero>
  FOURMI_INLINE void put(std::int64_t at, const float* from, std::int64_t n, float factor) const {
    constexpr float zero = plus_zero ? 0.0F : -0.0F;  // x + -0 is x
    if (whole != nullptr) {
      float* to = whole + at;
      for (std::int64_t c = 0; c < n; ++c) to[c] = (from[c] + zero) * factor;
    } else {
      bfloat16* to = rounded + at;
      for (std::int64_t c = 0; c < n; ++c) to[c] = narrow<bfloat16>((from[c] + zero) * factor);
    }
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
