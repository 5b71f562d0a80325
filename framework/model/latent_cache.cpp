#include "framework/model/latent_cache.h"

#include "kernels/ops/copy.h"

namespace fourmi {

LatentCache::LatentCache(const ModelSection& m, const ParameterStore& store, const CacheSizes& sizes, Arena& arena)
    : H_(m.num_attention_heads),
      nope_(m.qk_nope_head_dim),
      rope_(m.qk_rope_head_dim),
      V_(m.v_head_dim),
      kv_rank_(m.kv_lora_rank),
      q_rank_(m.q_lora_rank),
      text_rows_(sizes.text_rows) {
  const ModelTypes& t = store.types();
  const std::int64_t C = kv_rank_ + rope_, M = sizes.step_rows;
  for (std::int64_t l = 0; l < m.num_hidden_layers; ++l) {
    cache_PC_.push_back(arena.allocate({sizes.cache_rows, C}, t.activation, "latent cache"));
    kv_b_.push_back(store.slot(layer_prefix(l) + "self_attn.kv_b_proj.weight"));
  }
  auto make = [&](Shape shape, DType dtype) { return arena.allocate(shape, dtype, "decode"); };
  row_MC_ = make({M, C}, t.activation);
  absorbed_MHC_ = make({M, H_, C}, t.activation);
  latent_MHC_ = make({M, H_, C}, t.activation);
  o_MHV_ = make({M, H_, V_}, t.activation);
  lse_MH_ = make({M, H_}, t.accumulate);
  nope_MN_ = make({M, nope_}, t.activation);
  latent_ML_ = make({M, kv_rank_}, t.activation);
  value_MV_ = make({M, V_}, t.activation);
}

void LatentCache::remember(const Context& c, std::size_t layer, CacheRuns runs, const Mla::Saved& s) {
  const Stream& stream = *c.stream;
  const std::int64_t M = s.cn_mKr.dim(0), C = kv_rank_ + rope_;
  const Tensor row_MC = row_MC_.rows(0, M);
  copy_columns(stream, s.cn_mKr, 0, row_MC, 0, kv_rank_);
  copy_columns(stream, s.a_mA, q_rank_ + kv_rank_, row_MC, kv_rank_, rope_);
  rotary_apply(stream, {.column = kv_rank_}, c.rotary_table, c.positions, row_MC.view({M, 1, C}));
  for (const CacheRun& r : runs)
    copy(stream, row_MC.rows(r.row, r.row + r.count), cache_PC_[layer].rows(r.base + r.length, r.base + r.end()));
}

/// up: [H (nope + V), L]. A query's product with an expanded key is that of the absorbed query with the latent.
void LatentCache::absorb(const Context& c, const Tensor& up, const Tensor& q_MHQ, const Tensor& absorbed_MHC) {
  const Stream& stream = *c.stream;
  const std::int64_t M = q_MHQ.dim(0), Q = nope_ + rope_, C = kv_rank_ + rope_;
  const Tensor q = q_MHQ.view({M, H_ * Q}), absorbed = absorbed_MHC.view({M, H_ * C});
  const Tensor nope_MN = nope_MN_.rows(0, M), latent_ML = latent_ML_.rows(0, M);
  for (std::int64_t h = 0; h < H_; ++h) {
    const std::int64_t first = h * (nope_ + V_);
    copy_columns(stream, q, h * Q, nope_MN, 0, nope_);
    linear_backward_input(stream, nope_MN, up.rows(first, first + nope_), latent_ML);
    copy_columns(stream, latent_ML, 0, absorbed, h * C, kv_rank_);
    copy_columns(stream, q, h * Q + nope_, absorbed, h * C + kv_rank_, rope_);
  }
}

void LatentCache::expand(const Context& c, const Tensor& up, const Tensor& latent_MHC, const Tensor& o_MHV) {
  const Stream& stream = *c.stream;
  const std::int64_t M = o_MHV.dim(0), C = kv_rank_ + rope_;
  const Tensor latent = latent_MHC.view({M, H_ * C}), o = o_MHV.view({M, H_ * V_});
  const Tensor latent_ML = latent_ML_.rows(0, M), value_MV = value_MV_.rows(0, M);
  for (std::int64_t h = 0; h < H_; ++h) {
    const std::int64_t first = h * (nope_ + V_) + nope_;
    copy_columns(stream, latent, h * C, latent_ML, 0, kv_rank_);
    linear_forward(stream, latent_ML, up.rows(first, first + V_), value_MV);
    copy_columns(stream, value_MV, 0, o, h * V_, V_);
  }
}

void LatentCache::attend(const Context& c, const Mla& mla, std::size_t layer, CacheRuns runs, const Tensor& x_MD,
                         Mla::Saved& s, const Tensor& y_MD) {
  const Stream& stream = *c.stream;
  const std::int64_t M = x_MD.dim(0), Q = nope_ + rope_, C = kv_rank_ + rope_;
  mla.project(c, x_MD, s);
  remember(c, layer, runs, s);
  const Tensor q_MHQ = s.q_MHQ.view({M, H_, Q});
  rotary_apply(stream, {.column = nope_}, c.rotary_table, c.positions, q_MHQ);
  const Tensor up = c.weight(kv_b_[layer]), absorbed_MHC = absorbed_MHC_.rows(0, M),
               latent_MHC = latent_MHC_.rows(0, M), o_MHV = o_MHV_.rows(0, M), lse_MH = lse_MH_.rows(0, M);
  absorb(c, up, q_MHQ, absorbed_MHC);
  Attention attention = mla.attention(c);
  attention.sequence = text_rows_;
  for (const CacheRun& r : runs) {
    const std::int64_t end = r.row + r.count;
    // Keys and values are the same cached rows; the value's rotary columns are computed and not used.
    const Tensor keys = cache_PC_[layer].rows(r.base, r.base + r.end()).view({r.end(), 1, C});
    attention_forward(stream, attention, absorbed_MHC.rows(r.row, end), keys, keys, c.key_begin.rows(r.row, end),
                      c.key_end.rows(r.row, end), latent_MHC.rows(r.row, end), lse_MH.rows(r.row, end));
  }
  expand(c, up, latent_MHC, o_MHV);
  mla.output(c, x_MD, o_MHV, y_MD);
}

}  // namespace fourmi
