#include "framework/model/sequence_attention.h"

#include "framework/model/ring.h"

namespace fourmi {

void attention_forward(const Context& c, const Attention& attention, const Tensor& q_MHQ, const Tensor& k_NGQ,
                       const Tensor& v_NGV, const Tensor& key_begin_M, const SequenceForward& memory,
                       const Tensor& o_MHV, const Tensor& lse_MH) {
  if (c.sizes.ring())
    ring_forward(c, attention, q_MHQ, k_NGQ, v_NGV, key_begin_M, memory, o_MHV, lse_MH);
  else
    attention_forward(*c.stream, attention, q_MHQ, k_NGQ, v_NGV, key_begin_M, c.key_end, o_MHV, lse_MH);
}

Share::Range rows_put_off(const Context& c, const Tensor& operand_MO) {
  if (c.moves().alone() || c.sizes.ring() || operand_MO || c.after_operand || c.stream->device()) return {};
  const std::int64_t m = c.sizes.shard_rows();
  return {c.rows->rank() * m, (c.rows->rank() + 1) * m};
}

void attention_backward(const Context& c, const Attention& attention, const Tensor& q_MHQ, const Tensor& k_NGQ,
                        const Tensor& v_NGV, const Tensor& key_begin_M, const Tensor& o_MHV, const Tensor& lse_MH,
                        const Tensor& do_MHV, const SequenceBackward& memory, const Tensor& dq_MHQ,
                        const Tensor& dk_MGQ, const Tensor& dv_MGV) {
  if (c.sizes.ring())
    return ring_backward(c, attention, q_MHQ, k_NGQ, v_NGV, key_begin_M, o_MHV, lse_MH, do_MHV, memory, dq_MHQ, dk_MGQ,
                         dv_MGV);
  const bool gathered = c.sizes.gathers_keys();
  const Tensor &dk = gathered ? memory.dkey_NGQ : dk_MGQ, &dv = gathered ? memory.dvalue_NGV : dv_MGV;
  attention_backward(*c.stream, attention, q_MHQ, k_NGQ, v_NGV, key_begin_M, c.key_end, o_MHV, lse_MH, do_MHV, dq_MHQ,
                     dk, dv);
  if (!gathered) return;
  c.sequences->sum(dk, memory.received_dkey_NGQ, dk_MGQ);
  c.sequences->sum(dv, memory.received_dvalue_NGV, dv_MGV);
  c.sequences->finish(*c.stream);
}

}  // namespace fourmi
