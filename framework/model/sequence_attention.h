// Attention where ranks share each sequence (context parallelism): every rank has all keys and values, and its own
// queries. What its queries leave of the gradients of keys and values goes to the ranks that own these (Llama 3 report,
// arXiv 2407.21783, 3.3.2). Where a rank has whole sequences this is the operation itself.
#pragma once

#include "framework/model/context.h"
#include "framework/model/fields.h"

namespace fourmi {

/// One rank's part of the gradients of all keys and values, and every rank's parts of those that are its own; absent
/// where a rank has whole sequences.
struct KeyGradients {
  struct Sizes {
    BatchSizes batch;
    ModelTypes types;
    std::int64_t G, Q, V;
  };
  Tensor dkey_NGQ, dvalue_NGV, received_dkey_NGQ, received_dvalue_NGV;
  template <class Visit>
  void fields(const Sizes& s, Visit&& visit) {
    if (s.batch.context == 1) return;
    const std::int64_t N = s.batch.key_rows();
    const DType acc = s.types.accumulate;
    visit(dkey_NGQ, "dkey of all", Shape{N, s.G, s.Q}, acc, Keep::temporary);
    visit(dvalue_NGV, "dvalue of all", Shape{N, s.G, s.V}, acc, Keep::temporary);
    visit(received_dkey_NGQ, "dkey received", Shape{N, s.G, s.Q}, acc, Keep::temporary);
    visit(received_dvalue_NGV, "dvalue received", Shape{N, s.G, s.V}, acc, Keep::temporary);
  }
};

/// attention_backward, with dk and dv of this rank's own rows.
void attention_backward(const Context&, const Attention&, const Tensor& q_MHQ, const Tensor& k_NGQ, const Tensor& v_NGV,
                        const Tensor& key_begin_M, const Tensor& o_MHV, const Tensor& lse_MH, const Tensor& do_MHV,
                        const KeyGradients&, const Tensor& dq_MHQ, const Tensor& dk_MGQ, const Tensor& dv_MGV);

}  // namespace fourmi
