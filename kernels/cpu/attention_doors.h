// Attention in bf16 has an order of sums of its own (docs/numerics.md "Attention"), made for vdpbf16ps; f32 and f64
// have the plain one.
#pragma once

#include "kernels/cpu/attention_bf16.h"
#include "kernels/cpu/attention_segments.h"

namespace fourmi::attention {

void forward_bf16(const Stream& stream, const Bf16Problem& p, bfloat16* o, float* lse);

struct BackwardOperands {
  const bfloat16 *o, *d_o;
  const float* lse;
  bfloat16 *dq, *dk, *dv;
};
void backward_bf16(const Stream& stream, const Bf16Problem& p, const BackwardOperands& operands,
                   const std::vector<Segment>& segments);

}  // namespace fourmi::attention
