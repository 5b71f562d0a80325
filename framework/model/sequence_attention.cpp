#include "framework/model/sequence_attention.h"

namespace fourmi {

void attention_backward(const Context& c, const Attention& attention, const Tensor& q_MHQ, const Tensor& k_NGQ,
                        const Tensor& v_NGV, const Tensor& key_begin_M, const Tensor& o_MHV, const Tensor& lse_MH,
                        const Tensor& do_MHV, const KeyGradients& all, const Tensor& dq_MHQ, const Tensor& dk_MGQ,
                        const Tensor& dv_MGV) {
  const Tensor &dk = c.sequences ? all.dkey_NGQ : dk_MGQ, &dv = c.sequences ? all.dvalue_NGV : dv_MGV;
  attention_backward(*c.stream, attention, q_MHQ, k_NGQ, v_NGV, key_begin_M, c.key_end, o_MHV, lse_MH, do_MHV, dq_MHQ,
                     dk, dv);
  if (!c.sequences) return;
  c.sequences->sum(dk, all.received_dkey_NGQ, dk_MGQ);
  c.sequences->sum(dv, all.received_dvalue_NGV, dv_MGV);
  c.sequences->finish(*c.stream);
}

}  // namespace fourmi
