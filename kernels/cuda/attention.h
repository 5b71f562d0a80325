// The ways to attention on a card, behind the doors of operations.h. Each has the arguments and the meaning of
// kernels/ops/attention.h; `block` and `sequence` say nothing here, and ranges of keys are trusted, not checked: the
// host does not see them.
#pragma once

#include "kernels/ops/attention.h"

namespace fourmi::cuda {

/// Any shape, any dtype of floats, on the CUDA cores.
void plain_attention_forward(const Stream&, const Attention&, const Tensor& q_MHQ, const Tensor& k_MGQ,
                             const Tensor& v_MGV, const Tensor& key_begin_M, const Tensor& key_end_M,
                             const Tensor& o_MHV, const Tensor& lse_MH);
void plain_attention_backward(const Stream&, const Attention&, const Tensor& q_MHQ, const Tensor& k_MGQ,
                              const Tensor& v_MGV, const Tensor& key_begin_M, const Tensor& key_end_M,
                              const Tensor& o_MHV, const Tensor& lse_MH, const Tensor& do_MHV, const Tensor& dq_MHQ,
                              const Tensor& dk_MGQ, const Tensor& dv_MGV);

}  // namespace fourmi::cuda
