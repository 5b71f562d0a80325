#include "framework/model/key_value_cache.h"

#include "kernels/ops/copy.h"
#include "kernels/ops/window.h"

namespace fourmi {

KeyValueCache::KeyValueCache(const ModelSection& m, const ParameterStore& store, std::int64_t max_tokens,
                             Arena& arena) {
  const Shape shape{max_tokens, m.num_key_value_heads, m.head_dim};
  for (std::int64_t l = 0; l < m.num_hidden_layers; ++l) {
    keys_PGQ_.push_back(arena.allocate(shape, store.types().activation, "key cache"));
    values_PGQ_.push_back(arena.allocate(shape, store.types().activation, "value cache"));
  }
  key_begin_ = arena.allocate({1}, DType::i32, "decode");
}

void KeyValueCache::attend(const Context& c, const Gqa& gqa, std::size_t layer, std::int64_t length, const Tensor& x_1D,
                           Gqa::Saved& s, const Tensor& y_1D) {
  gqa.project(c, x_1D, s);
  gqa.assemble(c, s);
  const Tensor &keys = keys_PGQ_[layer], &values = values_PGQ_[layer];
  copy(*c.stream, s.key_MGQ, keys.rows(length, length + 1));
  copy(*c.stream, s.value_MGQ, values.rows(length, length + 1));
  Tensor begin = c.key_begin;
  if (gqa.window() > 0) {
    window_key_begin(*c.stream, gqa.window(), c.key_begin, c.key_end, key_begin_);
    begin = key_begin_;
  }
  attention_forward(*c.stream, gqa.attention(c), s.query_MHQ, keys.rows(0, length + 1), values.rows(0, length + 1),
                    begin, c.key_end, s.o_MHQ, s.lse_MH);
  gqa.output(c, x_1D, s.o_MHQ, y_1D);
}

}  // namespace fourmi
