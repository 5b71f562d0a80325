#include "framework/model/ring.h"

#include "framework/model/sequence_part.h"
#include "kernels/ops/held_rows.h"
#include "kernels/ops/reduce.h"
#include "kernels/ops/tree_sum.h"

namespace fourmi {

namespace {

std::span<std::byte> bytes(const Tensor& t) {
  return {static_cast<std::byte*>(t.data), static_cast<std::size_t>(t.bytes())};
}

/// One tensor that goes to the next rank, and one that comes from the rank before.
class Passing {
 public:
  Passing(const Context& c, RingTag tag)
      : stream_(*c.stream), group_(c.sequences->group()), tag_(static_cast<int>(tag)) {}
  void receive(const Tensor& t) {
    received_ = group_.start_receive(bytes(t), (group_.rank() + group_.size() - 1) % group_.size(), tag_);
  }
  void send(const Tensor& t) { sent_ = group_.start_send(bytes(t), (group_.rank() + 1) % group_.size(), tag_); }
  void wait_received() { wait(received_); }
  void wait_sent() { wait(sent_); }

 private:
  void wait(Request& request) {
    const Span span(stream_.timeline(), Work::exchange, "wait_for_ring");
    request.wait();
  }
  const Stream& stream_;
  Group& group_;
  int tag_;
  Request sent_, received_;
};

/// The keys and values of every rank in turn, its own first: after hop h it holds those of the rank h places before.
class Keys {
 public:
  Keys(const Context& c, const RingKeys& memory, const Tensor& k_MGQ, const Tensor& v_MGV, const Tensor& key_begin_M)
      : c_(c),
        memory_(memory),
        key_begin_M_(key_begin_M),
        k_(k_MGQ),
        v_(v_MGV),
        key_(c, RingTag::keys),
        value_(c, RingTag::values) {}

  /// Those of hop `hop` are here; the next ones come while they are worked at.
  void begin(int hop) {
    const std::int64_t T = c_.sizes.tokens_per_sequence;
    const int size = c_.sequences->size(), owner = (c_.sequences->rank() + size - hop) % size;
    const auto runs = SequencePart{owner, size, true}.runs(T);
    const HeldRows held{T, {runs[0].begin, runs[1].begin}, {runs[0].end, runs[1].end}};
    count_held_below(*c_.stream, held, key_begin_M_, memory_.begin_M);
    count_held_below(*c_.stream, held, c_.key_end, memory_.end_M);
    if (hop + 1 == size) return;
    const auto next = static_cast<std::size_t>(hop % 2);
    key_.receive(memory_.k_MGQ[next]), value_.receive(memory_.v_MGV[next]);
    key_.send(k_), value_.send(v_);
  }
  void end(int hop) {
    if (hop + 1 == c_.sequences->size()) return;
    const auto next = static_cast<std::size_t>(hop % 2);
    key_.wait_received(), value_.wait_received();
    key_.wait_sent(), value_.wait_sent();
    k_ = memory_.k_MGQ[next], v_ = memory_.v_MGV[next];
  }
  const Tensor& k() const { return k_; }
  const Tensor& v() const { return v_; }
  const Tensor& key_begin() const { return memory_.begin_M; }
  const Tensor& key_end() const { return memory_.end_M; }

 private:
  const Context& c_;
  const RingKeys& memory_;
  const Tensor& key_begin_M_;
  Tensor k_, v_;
  Passing key_, value_;
};

/// The gradients of one of the two, which travel behind their keys: a rank adds what its queries leave and passes on.
class Gradients {
 public:
  Gradients(const Context& c, RingTag tag, const std::array<Tensor, 2>& parts, const Tensor& come)
      : stream_(*c.stream), parts_(parts), come_(come), passing_{Passing(c, tag), Passing(c, tag)} {}

  /// Memory for what this rank leaves in this hop: what lay there has been sent.
  const Tensor& part(int hop) {
    if (hop >= 2) passing(hop).wait_sent();
    return parts_[at(hop)];
  }
  void pass_on(int hop) {
    const Tensor& mine = parts_[at(hop)];
    if (hop > 0) {
      passing_[0].wait_received();
      add(stream_, come_, mine);
    }
    passing_[0].receive(come_);
    passing(hop).send(mine);
  }
  /// After the last hop: of this rank's own rows.
  void finish(const Tensor& own) {
    passing_[0].wait_received();
    for (Passing& p : passing_) p.wait_sent();
    convert(stream_, come_, own);
  }
  /// y += x
  static void add(const Stream& stream, const Tensor& x, const Tensor& y) {
    const Shape flat{y.num_elements()};
    const Tensor part = x.view(flat);
    tree_sum(stream, std::span(&part, 1), y.view(flat), y.view(flat));
  }

 private:
  static std::size_t at(int hop) { return static_cast<std::size_t>(hop % 2); }
  Passing& passing(int hop) { return passing_[at(hop)]; }
  const Stream& stream_;
  const std::array<Tensor, 2>& parts_;
  const Tensor& come_;
  std::array<Passing, 2> passing_;
};

}  // namespace

void ring_forward(const Context& c, const Attention& attention, const Tensor& q_MHQ, const Tensor& k_MGQ,
                  const Tensor& v_MGV, const Tensor& key_begin_M, const SequenceForward& memory, const Tensor& o_MHV,
                  const Tensor& lse_MH) {
  const Stream& stream = *c.stream;
  const Tensor& sum = memory.sum_MHV ? memory.sum_MHV : o_MHV;
  Keys keys(c, memory.ring, k_MGQ, v_MGV, key_begin_M);
  for (int hop = 0; hop < c.sequences->size(); ++hop) {
    keys.begin(hop);
    const Tensor &o = hop == 0 ? sum : memory.part_MHV, &lse = hop == 0 ? lse_MH : memory.part_lse_MH;
    attention_forward(stream, attention, q_MHQ, keys.k(), keys.v(), keys.key_begin(), keys.key_end(), o, lse);
    if (hop > 0) attention_merge(stream, o, lse, sum, lse_MH);
    keys.end(hop);
  }
  if (memory.sum_MHV) convert(stream, sum, o_MHV);
}

void ring_backward(const Context& c, const Attention& attention, const Tensor& q_MHQ, const Tensor& k_MGQ,
                   const Tensor& v_MGV, const Tensor& key_begin_M, const Tensor& o_MHV, const Tensor& lse_MH,
                   const Tensor& do_MHV, const SequenceBackward& memory, const Tensor& dq_MHQ, const Tensor& dk_MGQ,
                   const Tensor& dv_MGV) {
  const Stream& stream = *c.stream;
  const Tensor& sum = memory.dq_sum_MHQ ? memory.dq_sum_MHQ : dq_MHQ;
  Keys keys(c, memory.ring, k_MGQ, v_MGV, key_begin_M);
  Gradients dk(c, RingTag::key_gradients, memory.dk_MGQ, memory.come_dk_MGQ);
  Gradients dv(c, RingTag::value_gradients, memory.dv_MGV, memory.come_dv_MGV);
  for (int hop = 0; hop < c.sequences->size(); ++hop) {
    keys.begin(hop);
    const Tensor& dq = hop == 0 ? sum : memory.dq_part_MHQ;
    attention_backward(stream, attention, q_MHQ, keys.k(), keys.v(), keys.key_begin(), keys.key_end(), o_MHV, lse_MH,
                       do_MHV, dq, dk.part(hop), dv.part(hop));
    if (hop > 0) Gradients::add(stream, dq, sum);
    dk.pass_on(hop), dv.pass_on(hop);
    keys.end(hop);
  }
  dk.finish(dk_MGQ), dv.finish(dv_MGV);
  if (memory.dq_sum_MHQ) convert(stream, sum, dq_MHQ);
}

}  // namespace fourmi
