// The two passes of ring attention (sequence_attention.h says what it is).
#pragma once

#include "framework/model/sequence_attention.h"

namespace fourmi {

/// Of the messages between neighbours.
enum class RingTag { keys, values, key_gradients, value_gradients };

void ring_forward(const Context&, const Attention&, const Tensor& q_MHQ, const Tensor& k_MGQ, const Tensor& v_MGV,
                  const Tensor& key_begin_M, const SequenceForward&, const Tensor& o_MHV, const Tensor& lse_MH);
void ring_backward(const Context&, const Attention&, const Tensor& q_MHQ, const Tensor& k_MGQ, const Tensor& v_MGV,
                   const Tensor& key_begin_M, const Tensor& o_MHV, const Tensor& lse_MH, const Tensor& do_MHV,
                   const SequenceBackward&, const Tensor& dq_MHQ, const Tensor& dk_MGQ, const Tensor& dv_MGV);

}  // namespace fourmi
