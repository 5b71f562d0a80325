// The messages of ring attention (framework/model/ring.cpp), in its order.
#include "framework/model/ring.h"
#include "framework/train/order_layers.h"

namespace fourmi {

namespace {

/// One of keys, values and their gradients on its way around.
class Passing {
 public:
  Passing(StepOrder& order, RingTag tag, std::int64_t bytes)
      : order_(order), tag_(static_cast<int>(tag)), bytes_(bytes) {}
  void receive() { order_.receive(from()); }
  void send() { order_.send(to(), bytes_); }
  void wait_received() { order_.wait_receive(from()); }
  void wait_sent() { order_.wait_send(to()); }

 private:
  StepOrder::Peer from() const { return {GroupKind::context, -1, tag_, true}; }
  StepOrder::Peer to() const { return {GroupKind::context, 1, tag_, true}; }
  StepOrder& order_;
  int tag_;
  std::int64_t bytes_;
};

/// Both at once.
struct Both {
  Passing k, v;
  void each(void (Passing::*verb)()) { (k.*verb)(), (v.*verb)(); }
};

void begin_hop(Both& keys) {
  keys.each(&Passing::receive), keys.each(&Passing::send);
}
void end_hop(Both& keys) {
  keys.each(&Passing::wait_received), keys.each(&Passing::wait_sent);
}

}  // namespace

void LayerOrder::ring_forward() {
  const std::int64_t row = sizes_.rows * my_heads() * size_of(types_.activation);
  Both keys{{order_, RingTag::keys, row * score_head_dim(m_)}, {order_, RingTag::values, row * value_head_dim(m_)}};
  for (std::int64_t hop = 0; hop + 1 < sizes_.context; ++hop) begin_hop(keys), end_hop(keys);
}

void LayerOrder::ring_backward() {
  const std::int64_t numbers = sizes_.rows * my_heads(), k = score_head_dim(m_), v = value_head_dim(m_);
  const std::int64_t act = size_of(types_.activation), acc = size_of(types_.accumulate);
  Both keys{{order_, RingTag::keys, numbers * k * act}, {order_, RingTag::values, numbers * v * act}};
  Both gradients{{order_, RingTag::key_gradients, numbers * k * acc},
                 {order_, RingTag::value_gradients, numbers * v * acc}};
  const std::int64_t last = sizes_.context - 1;
  for (std::int64_t hop = 0; hop <= last; ++hop) {
    if (hop < last) begin_hop(keys);
    if (hop >= 2) gradients.each(&Passing::wait_sent);
    for (Passing* g : {&gradients.k, &gradients.v}) {
      if (hop > 0) g->wait_received();
      g->receive(), g->send();
    }
    if (hop < last) end_hop(keys);
  }
  for (Passing* g : {&gradients.k, &gradients.v}) {
    g->wait_received();
    for (std::int64_t sent = std::min<std::int64_t>(2, sizes_.context); sent > 0; --sent) g->wait_sent();
  }
}

}  // namespace fourmi
