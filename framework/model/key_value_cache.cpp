#include "framework/model/key_value_cache.h"

#include "kernels/ops/copy.h"
#include "kernels/ops/window.h"

namespace fourmi {

KeyValueCache::KeyValueCache(const ModelSection& m, const ParameterStore& store, const CacheSizes& sizes, Arena& arena)
    : text_rows_(sizes.text_rows) {
  const Shape shape{sizes.cache_rows, m.num_key_value_heads, m.head_dim};
  for (std::int64_t l = 0; l < m.num_hidden_layers; ++l) {
    keys_PGQ_.push_back(arena.allocate(shape, store.types().activation, "key cache"));
    values_PGQ_.push_back(arena.allocate(shape, store.types().activation, "value cache"));
  }
  key_begin_M_ = arena.allocate({sizes.step_rows}, DType::i32, "decode");
}

void KeyValueCache::attend(const Context& c, const Gqa& gqa, std::size_t layer, CacheRuns runs, const Tensor& x_MD,
                           Gqa::Saved& s, const Tensor& y_MD) {
  gqa.project(c, x_MD, s);
  gqa.assemble(c, s);
  Tensor begin_M = c.key_begin;
  if (gqa.window() > 0) {
    begin_M = key_begin_M_.rows(0, x_MD.dim(0));
    window_key_begin(*c.stream, gqa.window(), c.key_begin, c.key_end, begin_M);
  }
  Attention attention = gqa.attention(c);
  attention.sequence = text_rows_;
  for (const CacheRun& r : runs) {
    const std::int64_t row_end = r.row + r.count;
    const Tensor keys = keys_PGQ_[layer].rows(r.base, r.base + r.end()),
                 values = values_PGQ_[layer].rows(r.base, r.base + r.end());
    copy(*c.stream, s.key_MGQ.rows(r.row, row_end), keys.rows(r.length, r.end()));
    copy(*c.stream, s.value_MGQ.rows(r.row, row_end), values.rows(r.length, r.end()));
    attention_forward(*c.stream, attention, s.query_MHQ.rows(r.row, row_end), keys, values,
                      begin_M.rows(r.row, row_end), c.key_end.rows(r.row, row_end), s.o_MHQ.rows(r.row, row_end),
                      s.lse_MH.rows(r.row, row_end));
  }
  gqa.output(c, x_MD, s.o_MHQ, y_MD);
}

}  // namespace fourmi
