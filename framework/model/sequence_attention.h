// Attention where ranks share each sequence (context parallelism), in two ways; where a rank has whole sequences it is
// the operation itself.
//
// All-gather (Llama 3 report, arXiv 2407.21783, 3.3.2): every rank has all keys and values, and its own queries. What
// these leave of the gradients of keys and values goes to the ranks that own them.
//
// Ring (Liu et al. 2023, Ring Attention, arXiv 2310.01889): a rank has its own keys and values. Those of the others
// come by, one rank's at a time, while it works at the ones before; what each leaves is joined by its softmax's
// denominator. In backward their gradients travel with them, and end where they belong.
//
//   Letters beside context.h's: G key/value heads   Q key head size   V value head size
#pragma once

#include "framework/model/context.h"
#include "framework/model/fields.h"

namespace fourmi {

struct AttentionSizes {
  BatchSizes batch;
  ModelTypes types;
  std::int64_t H, G, Q, V;
};

/// Keys and values that travel around the ring: those at work and those that come.
struct RingKeys {
  std::array<Tensor, 2> k_MGQ, v_MGV;
  Tensor begin_M, end_M;  ///< which of them this rank's rows see
  template <class Visit>
  void fields(const AttentionSizes& s, Visit&& visit) {
    const std::int64_t M = s.batch.rows;
    for (Tensor& k : k_MGQ) visit(k, "ring.k", Shape{M, s.G, s.Q}, s.types.activation, Keep::temporary);
    for (Tensor& v : v_MGV) visit(v, "ring.v", Shape{M, s.G, s.V}, s.types.activation, Keep::temporary);
    visit(begin_M, "ring.begin", Shape{M}, DType::i32, Keep::temporary);
    visit(end_M, "ring.end", Shape{M}, DType::i32, Keep::temporary);
  }
};

/// What forward needs beside its result.
struct SequenceForward {
  RingKeys ring;
  Tensor sum_MHV, part_MHV, part_lse_MH;
  template <class Visit>
  void fields(const AttentionSizes& s, Visit&& visit) {
    if (!s.batch.ring()) return;
    const std::int64_t M = s.batch.rows;
    const DType acc = s.types.accumulate;
    ring.fields(s, visit);
    if (s.types.activation != acc) visit(sum_MHV, "ring.o", Shape{M, s.H, s.V}, acc, Keep::temporary);
    visit(part_MHV, "ring.part", Shape{M, s.H, s.V}, acc, Keep::temporary);
    visit(part_lse_MH, "ring.part_lse", Shape{M, s.H}, acc, Keep::temporary);
  }
};

/// What backward needs beside its results.
struct SequenceBackward {
  // All-gather: this rank's part of the gradients of all keys and values, and every rank's parts of those that are its.
  Tensor dkey_NGQ, dvalue_NGV, received_dkey_NGQ, received_dvalue_NGV;
  RingKeys ring;
  std::array<Tensor, 2> dk_MGQ, dv_MGV;                      // ring: of the keys at work, and those on their way on
  Tensor come_dk_MGQ, come_dv_MGV, dq_sum_MHQ, dq_part_MHQ;  // ring: what the rank before found; this rank's queries'
  template <class Visit>
  void fields(const AttentionSizes& s, Visit&& visit) {
    const DType acc = s.types.accumulate;
    const Shape k{s.batch.key_rows(), s.G, s.Q}, v{s.batch.key_rows(), s.G, s.V}, q{s.batch.rows, s.H, s.Q};
    if (s.batch.gathers_keys()) {
      visit(dkey_NGQ, "dkey of all", k, acc, Keep::temporary);
      visit(dvalue_NGV, "dvalue of all", v, acc, Keep::temporary);
      visit(received_dkey_NGQ, "dkey received", k, acc, Keep::temporary);
      visit(received_dvalue_NGV, "dvalue received", v, acc, Keep::temporary);
    }
    if (!s.batch.ring()) return;
    ring.fields(s, visit);
    for (Tensor& t : dk_MGQ) visit(t, "ring.dk", k, acc, Keep::temporary);
    for (Tensor& t : dv_MGV) visit(t, "ring.dv", v, acc, Keep::temporary);
    visit(come_dk_MGQ, "ring.dk received", k, acc, Keep::temporary);
    visit(come_dv_MGV, "ring.dv received", v, acc, Keep::temporary);
    if (s.types.activation != acc) visit(dq_sum_MHQ, "ring.dq", q, acc, Keep::temporary);
    visit(dq_part_MHQ, "ring.dq_part", q, acc, Keep::temporary);
  }
};

/// attention_forward of this rank's rows. k and v: of whole sequences (all-gather), or this rank's (ring). key_begin_M
/// counts rows of whole sequences.
void attention_forward(const Context&, const Attention&, const Tensor& q_MHQ, const Tensor& k_NGQ, const Tensor& v_NGV,
                       const Tensor& key_begin_M, const SequenceForward&, const Tensor& o_MHV, const Tensor& lse_MH);

/// Rows of a tensor axis' rank whose attention is put off until partial sums of the others' rows travel: those that it
/// has between layers. None where nothing travels; in a ring, where keys come by for all rows at once; where rows get
/// their scales (`operand`) or are looked at together; on a device, where a library takes whole documents.
Share::Range rows_put_off(const Context&, const Tensor& operand_MO);

/// attention_forward, and project(own), which makes the sums of o and calls `own` before it reads the rows put off.
template <class Project>
void attend_and_project(const Context& c, const Attention& attention, const Tensor& q_MHQ, const Tensor& k_NGQ,
                        const Tensor& v_NGV, const Tensor& key_begin_M, const SequenceForward& memory,
                        const Tensor& o_MHV, const Tensor& lse_MH, const Tensor& operand_MO, const Project& project) {
  const Share::Range late = rows_put_off(c, operand_MO);
  if (late.count() == 0) {
    attention_forward(c, attention, q_MHQ, k_NGQ, v_NGV, key_begin_M, memory, o_MHV, lse_MH);
    return project(Meanwhile{});
  }
  Attention part = attention;
  part.documents = {}, part.query_leaves = 0;  // rows are no whole documents, and leaves are backward's
  const auto attend = [&](std::int64_t begin, std::int64_t end) {
    if (begin == end) return;
    const auto rows = [&](const Tensor& x) { return x.rows(begin, end); };
    attention_forward(*c.stream, part, rows(q_MHQ), k_NGQ, v_NGV, rows(key_begin_M), rows(c.key_end), rows(o_MHV),
                      rows(lse_MH));
  };
  attend(0, late.begin);
  attend(late.end, q_MHQ.dim(0));
  project([&] { attend(late.begin, late.end); });
}

/// attention_backward, with dk and dv of this rank's own rows.
void attention_backward(const Context&, const Attention&, const Tensor& q_MHQ, const Tensor& k_NGQ, const Tensor& v_NGV,
                        const Tensor& key_begin_M, const Tensor& o_MHV, const Tensor& lse_MH, const Tensor& do_MHV,
                        const SequenceBackward&, const Tensor& dq_MHQ, const Tensor& dk_MGQ, const Tensor& dv_MGV);

}  // namespace fourmi
