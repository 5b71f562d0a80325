#include "framework/model/latent_cache.h"

#include "kernels/ops/copy.h"

namespace fourmi {

LatentCache::LatentCache(const ModelSection& m, const ParameterStore& store, std::int64_t max_tokens, Arena& arena)
    : H_(m.num_attention_heads),
      nope_(m.qk_nope_head_dim),
      rope_(m.qk_rope_head_dim),
      V_(m.v_head_dim),
      kv_rank_(m.kv_lora_rank),
      q_rank_(m.q_lora_rank) {
  const ModelTypes& t = store.types();
  const std::int64_t C = kv_rank_ + rope_;
  for (std::int64_t l = 0; l < m.num_hidden_layers; ++l) {
    cache_PC_.push_back(arena.allocate({max_tokens, C}, t.activation, "latent cache"));
    kv_b_.push_back(store.slot(layer_prefix(l) + "self_attn.kv_b_proj.weight"));
  }
  absorbed_1HC_ = arena.allocate({1, H_, C}, t.activation, "decode");
  latent_1HC_ = arena.allocate({1, H_, C}, t.activation, "decode");
  o_1HV_ = arena.allocate({1, H_, V_}, t.activation, "decode");
  lse_ = arena.allocate({1, H_}, t.accumulate, "decode");
}

namespace {
/// `count` elements starting at `first` of a one-row tensor, as a [1, count] tensor.
Tensor part(const Tensor& t, std::int64_t first, std::int64_t count) {
  return t.view({t.num_elements()}).rows(first, first + count).view({1, count});
}
}  // namespace

void LatentCache::attend(const Context& c, const Mla& mla, std::size_t layer, std::int64_t length, const Tensor& x_1D,
                         Mla::Saved& s, const Tensor& y_1D) {
  const Stream& stream = *c.stream;
  const std::int64_t Q = nope_ + rope_, C = kv_rank_ + rope_;
  mla.project(c, x_1D, s);

  const Tensor row = cache_PC_[layer].rows(length, length + 1);
  copy(stream, s.cn_mKr, part(row, 0, kv_rank_));
  copy(stream, part(s.a_mA, q_rank_ + kv_rank_, rope_), part(row, kv_rank_, rope_));
  rotary_apply(stream, {.column = kv_rank_}, c.rotary_table, c.positions, row.view({1, 1, C}));
  const Tensor q = part(s.q_MHQ, 0, H_ * Q);
  rotary_apply(stream, {.column = nope_}, c.rotary_table, c.positions, q.view({1, H_, Q}));

  const Tensor up = c.weight(kv_b_[layer]);  // [H (nope + V), kv_rank]
  for (std::int64_t h = 0; h < H_; ++h) {
    const std::int64_t first = h * (nope_ + V_);
    linear_backward_input(stream, part(q, h * Q, nope_), up.rows(first, first + nope_),
                          part(absorbed_1HC_, h * C, kv_rank_));
    copy(stream, part(q, h * Q + nope_, rope_), part(absorbed_1HC_, h * C + kv_rank_, rope_));
  }
  // Keys and values are the same cached rows; the value's rotary columns are computed and not used.
  const Tensor keys = cache_PC_[layer].rows(0, length + 1).view({length + 1, 1, C});
  attention_forward(stream, mla.attention(c), absorbed_1HC_, keys, keys, c.key_begin, c.key_end, latent_1HC_, lse_);
  for (std::int64_t h = 0; h < H_; ++h) {
    const std::int64_t first = h * (nope_ + V_) + nope_;
    linear_forward(stream, part(latent_1HC_, h * C, kv_rank_), up.rows(first, first + V_), part(o_1HV_, h * V_, V_));
  }
  mla.output(c, x_1D, o_1HV_, y_1D);
}

}  // namespace fourmi
