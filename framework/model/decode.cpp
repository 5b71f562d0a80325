#include "framework/model/decode.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/numerics/math.h"
#include "kernels/numerics/random.h"
#include "kernels/ops/embedding.h"

namespace fourmi {

Decoder::Decoder(const Model& model, const ParameterStore& store, std::int64_t max_tokens, Arena& arena)
    : model_(&model), store_(&store), max_tokens_(max_tokens) {
  const ModelSection& m = model.section();
  H_ = m.num_attention_heads, nope_ = m.qk_nope_head_dim, rope_ = m.qk_rope_head_dim, V_ = m.v_head_dim;
  kv_rank_ = m.kv_lora_rank, q_rank_ = m.q_lora_rank;
  q_width_ = q_rank_ > 0 ? q_rank_ : H_ * (nope_ + rope_);
  const ModelTypes& t = store.types();
  const BatchSizes one{1, 1};
  const std::int64_t C = kv_rank_ + rope_;
  for (std::size_t l = 0; l < model.blocks().size(); ++l) {
    cache_PC_.push_back(arena.allocate({max_tokens, C}, t.activation, "latent cache"));
    kv_b_.push_back(store.slot(layer_prefix(static_cast<std::int64_t>(l)) + "self_attn.kv_b_proj.weight"));
    const Block& b = model.blocks()[l];
    Block::Saved& saved = b.is_moe() ? moe_ : dense_;
    if (!saved.h_MD) allocate_fields(saved, b.sizes(one, t), arena, "decode.");
  }
  allocate_fields(head_, model.head().sizes(one, t), arena, "decode.");
  x_ = arena.allocate({1, m.hidden_size}, t.activation, "decode");
  y_ = arena.allocate({1, m.hidden_size}, t.activation, "decode");
  absorbed_1HC_ = arena.allocate({1, H_, C}, t.activation, "decode");
  latent_1HC_ = arena.allocate({1, H_, C}, t.activation, "decode");
  o_1HV_ = arena.allocate({1, H_, V_}, t.activation, "decode");
  lse_ = arena.allocate({1, H_}, t.accumulate, "decode");
  logits_ = arena.allocate({1, m.vocab_size}, t.accumulate, "decode");
  ids_ = arena.allocate({4, 1}, DType::i32, "decode");
}

namespace {
/// `count` elements starting at `first` of a one-row tensor, as a [1, count] tensor.
Tensor part(const Tensor& t, std::int64_t first, std::int64_t count) {
  return t.view({t.num_elements()}).rows(first, first + count).view({1, count});
}
void copy(const Tensor& from, const Tensor& to) { std::memcpy(to.data, from.data, static_cast<std::size_t>(from.bytes())); }
}  // namespace

void Decoder::attention(const Stream& stream, const Context& c, std::size_t layer, const Tensor& x_1D) {
  const Block& block = model_->blocks()[layer];
  const Mla& mla = block.attention();
  Block::Saved& saved = block.is_moe() ? moe_ : dense_;
  Mla::Saved& s = saved.attention;
  const std::int64_t Q = nope_ + rope_, C = kv_rank_ + rope_;
  mla.project(c, x_1D, s);

  const Tensor row = cache_PC_[layer].rows(length_, length_ + 1);
  copy(s.cn_MKr, part(row, 0, kv_rank_));
  copy(part(s.a_MA, q_width_ + kv_rank_, rope_), part(row, kv_rank_, rope_));
  rotary_apply(stream, {.column = kv_rank_}, c.rotary_table, c.positions, row.view({1, 1, C}));
  const Tensor q = part(q_rank_ > 0 ? s.q_MHQ : s.a_MA, 0, H_ * Q);
  rotary_apply(stream, {.column = nope_}, c.rotary_table, c.positions, q.view({1, H_, Q}));

  const Tensor up = store_->weight(kv_b_[layer]);  // [H (nope + V), kv_rank]
  for (std::int64_t h = 0; h < H_; ++h) {
    const std::int64_t first = h * (nope_ + V_);
    linear_backward_input(stream, part(q, h * Q, nope_), up.rows(first, first + nope_), part(absorbed_1HC_, h * C, kv_rank_));
    copy(part(q, h * Q + nope_, rope_), part(absorbed_1HC_, h * C + kv_rank_, rope_));
  }
  // Keys and values are the same cached rows; the value's rotary columns are computed and not used.
  const Tensor keys = cache_PC_[layer].rows(0, length_ + 1).view({length_ + 1, 1, C});
  attention_forward(stream, mla.attention(c), absorbed_1HC_, keys, keys, c.key_begin, c.key_end, latent_1HC_, lse_);
  for (std::int64_t h = 0; h < H_; ++h) {
    const std::int64_t first = h * (nope_ + V_) + nope_;
    linear_forward(stream, part(latent_1HC_, h * C, kv_rank_), up.rows(first, first + V_), part(o_1HV_, h * V_, V_));
  }
  mla.output(c, x_1D, o_1HV_, saved.h_MD);
}

const std::vector<double>& Decoder::next(const Stream& stream, std::int32_t token) {
  FOURMI_CHECK(length_ < max_tokens_, "a cache of {} tokens is full", max_tokens_);
  auto* ids = ids_.as<std::int32_t>();
  ids[0] = token;
  ids[1] = static_cast<std::int32_t>(length_);
  ids[2] = 0;
  ids[3] = static_cast<std::int32_t>(length_ + 1);
  Context c;
  c.stream = &stream;
  c.parameters = store_;
  c.sizes = {1, 1};
  c.positions = ids_.rows(1, 2).view({1});
  c.key_begin = ids_.rows(2, 3).view({1});
  c.key_end = ids_.rows(3, 4).view({1});
  c.rotary_table = model_->rotary_table();

  embedding_forward(stream, ids_.rows(0, 1).view({1}), store_->weight(model_->embedding()), x_);
  for (std::size_t l = 0; l < model_->blocks().size(); ++l) {
    const Block& block = model_->blocks()[l];
    Block::Saved& saved = block.is_moe() ? moe_ : dense_;
    attention(stream, c, l, x_);
    block.feed_forward(c, saved.h_MD, saved, y_, {});
    std::swap(x_, y_);
  }
  model_->head().logits(c, x_, head_, logits_);
  ++length_;
  result_.resize(static_cast<std::size_t>(logits_.num_elements()));
  for (std::size_t i = 0; i < result_.size(); ++i)
    result_[i] = logits_.dtype == DType::f64 ? logits_.as<double>()[i] : static_cast<double>(logits_.as<float>()[i]);
  return result_;
}

std::int32_t sample(const std::vector<double>& logits, const Sampling& s, std::int64_t index, std::int64_t banned_from) {
  const auto n = static_cast<std::size_t>(std::min<std::int64_t>(banned_from, static_cast<std::int64_t>(logits.size())));
  std::vector<std::int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  auto logit = [&](std::int32_t id) { return logits[static_cast<std::size_t>(id)]; };
  std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) { return logit(a) != logit(b) ? logit(a) > logit(b) : a < b; });
  if (s.temperature <= 0) return order[0];
  std::vector<double> probability(n);
  double total = 0;
  for (std::size_t i = 0; i < n; ++i) total += probability[i] = fourmi::exp((logit(order[i]) - logit(order[0])) / s.temperature);
  double kept = 0;
  std::size_t count = 0;
  while (count < n && (count == 0 || kept < s.top_p * total)) kept += probability[count++];
  double u = random_uniform(random_key(s.seed, "sample", ""), static_cast<std::uint64_t>(index)) * kept;
  for (std::size_t i = 0; i < count; ++i) {
    u -= probability[i];
    if (u < 0) return order[i];
  }
  return order[count - 1];
}

}  // namespace fourmi
