#include "framework/model/decode.h"

#include <algorithm>
#include <numeric>

#include "kernels/numerics/math.h"
#include "kernels/numerics/random.h"
#include "kernels/ops/embedding.h"
#include "kernels/runtime/on_host.h"

namespace fourmi {

Decoder::Decoder(const Model& model, const ParameterStore& store, std::int64_t max_tokens, Arena& arena)
    : model_(&model), store_(&store), max_tokens_(max_tokens) {
  const ModelSection& m = model.section();
  const ModelTypes& t = store.types();
  const BatchSizes one{1, 1};
  if (has_latent_attention(m))
    latents_.emplace(m, store, max_tokens, arena);
  else
    keys_values_.emplace(m, store, max_tokens, arena);
  for (const Block& b : model.blocks()) {
    Block::Saved& saved = b.is_moe() ? moe_ : dense_;
    if (!saved.h_mD) allocate_fields(saved, b.sizes(one, t), arena, "decode.");
  }
  allocate_fields(head_, model.head().sizes(one, t), arena, "decode.");
  x_ = arena.allocate({1, m.hidden_size}, t.activation, "decode");
  y_ = arena.allocate({1, m.hidden_size}, t.activation, "decode");
  logits_ = arena.allocate({1, m.vocab_size}, t.accumulate, "decode");
  ids_ = arena.allocate({4, 1}, DType::i32, "decode");
}

const std::vector<double>& Decoder::next(const Stream& stream, std::int32_t token) {
  FOURMI_CHECK(length_ < max_tokens_, "a cache of {} tokens is full", max_tokens_);
  const OnHost on_host(stream, ids_, OnHost::Use::fill);
  auto* ids = on_host.tensor().as<std::int32_t>();
  ids[0] = token;
  ids[1] = static_cast<std::int32_t>(length_);
  ids[2] = 0;
  ids[3] = static_cast<std::int32_t>(length_ + 1);
  on_host.back();
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
    if (latents_)
      latents_->attend(c, *block.attention().mla(), l, length_, x_, saved.attention.mla, saved.h_mD);
    else
      keys_values_->attend(c, *block.attention().gqa(), l, length_, x_, saved.attention.gqa, saved.h_mD);
    block.feed_forward(c, saved.h_mD, saved, y_, {});
    std::swap(x_, y_);
  }
  model_->head().logits(c, x_, head_, logits_);
  ++length_;
  result_.resize(static_cast<std::size_t>(logits_.num_elements()));
  const OnHost all(stream, logits_);
  const Tensor& logits = all.tensor();
  for (std::size_t i = 0; i < result_.size(); ++i)
    result_[i] = logits.dtype == DType::f64 ? logits.as<double>()[i] : static_cast<double>(logits.as<float>()[i]);
  return result_;
}

std::int32_t sample(const std::vector<double>& logits, const Sampling& s, std::int64_t index,
                    std::int64_t banned_from) {
  const auto n =
      static_cast<std::size_t>(std::min<std::int64_t>(banned_from, static_cast<std::int64_t>(logits.size())));
  std::vector<std::int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  auto logit = [&](std::int32_t id) { return logits[static_cast<std::size_t>(id)]; };
  std::sort(order.begin(), order.end(),
            [&](std::int32_t a, std::int32_t b) { return logit(a) != logit(b) ? logit(a) > logit(b) : a < b; });
  if (s.temperature <= 0) return order[0];
  std::vector<double> probability(n);
  double total = 0;
  for (std::size_t i = 0; i < n; ++i)
    total += probability[i] = fourmi::exp((logit(order[i]) - logit(order[0])) / s.temperature);
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
