#include "framework/model/decode.h"

#include "kernels/ops/copy.h"
#include "kernels/ops/embedding.h"
#include "kernels/runtime/on_host.h"

namespace fourmi {

namespace {
constexpr std::int64_t block = Context{}.attention_block;
BatchSizes batch_of(std::int64_t rows) {
  return {rows, rows};
}
}  // namespace

Decoder::Decoder(const Model& model, const ParameterStore& store, const DecoderSizes& sizes, Arena& arena)
    : model_(&model),
      store_(&store),
      sizes_(sizes),
      stride_((sizes.max_tokens + block - 1) / block * block),
      lengths_(static_cast<std::size_t>(sizes.texts)) {
  FOURMI_CHECK(sizes.max_tokens <= model.rotary_table().dim(0), "{} positions, the model has {}", sizes.max_tokens,
               model.rotary_table().dim(0));
  const ModelSection& m = model.section();
  const ModelTypes& t = store.types();
  const CacheSizes cache{sizes.texts * stride_, stride_, sizes.rows};
  if (has_latent_attention(m))
    latents_.emplace(m, store, cache, arena);
  else
    keys_values_.emplace(m, store, cache, arena);
  for (const Block& b : model.blocks()) {
    PrefixFields<Block>& fields = b.is_moe() ? moe_ : dense_;
    if (!fields.allocated()) fields.allocate(b.sizes(batch_of(sizes.rows), t), arena, "decode.");
  }
  allocate_fields(head_, model.head().sizes(batch_of(sizes.logit_rows), t), arena, "decode.");
  auto make = [&](Shape shape, DType dtype) { return arena.allocate(shape, dtype, "decode"); };
  x_ = make({sizes.rows, m.hidden_size}, t.activation);
  y_ = make({sizes.rows, m.hidden_size}, t.activation);
  selected_ = make({sizes.logit_rows, m.hidden_size}, t.activation);
  logits_ = make({sizes.logit_rows, m.vocab_size}, t.accumulate);
  ids_ = make({4, sizes.rows}, DType::i32);
}

/// Fills runs_; returns the step's rows.
std::int64_t Decoder::place(std::span<const DecoderRun> runs) {
  runs_.clear();
  std::int64_t rows = 0, logits = 0;
  std::vector<bool> seen(lengths_.size());
  for (const DecoderRun& r : runs) {
    const auto text = static_cast<std::size_t>(r.text);
    const std::int64_t count = std::ssize(r.tokens), length = lengths_.at(text);
    FOURMI_CHECK(count > 0 && !seen[text], "a step has one run a text, of a token at least");
    FOURMI_CHECK(length + count <= sizes_.max_tokens, "a cache of {} tokens is full", sizes_.max_tokens);
    FOURMI_CHECK(r.logits >= 0 && r.logits <= count, "logits of {} of {} tokens", r.logits, count);
    seen[text] = true;
    runs_.push_back({.row = rows, .count = count, .base = r.text * stride_, .length = length});
    rows += count;
    logits += r.logits;
  }
  FOURMI_CHECK(rows > 0 && rows <= sizes_.rows && logits <= sizes_.logit_rows,
               "a step of {} tokens, logits of {}: at most {} and {}", rows, logits, sizes_.rows, sizes_.logit_rows);
  return rows;
}

Context Decoder::fill(const Stream& stream, std::span<const DecoderRun> runs, std::int64_t num_rows) {
  const OnHost on_host(stream, ids_, OnHost::Use::fill);
  auto* ids = on_host.tensor().as<std::int32_t>();
  const std::int64_t width = sizes_.rows;
  std::fill(ids, ids + 4 * width, 0);
  for (std::size_t i = 0; i < runs.size(); ++i)
    for (std::int64_t j = 0; j < runs_[i].count; ++j) {
      const std::int64_t row = runs_[i].row + j, position = runs_[i].length + j;
      ids[row] = runs[i].tokens[static_cast<std::size_t>(j)];
      ids[width + row] = static_cast<std::int32_t>(position);
      ids[3 * width + row] = static_cast<std::int32_t>(position + 1);
    }
  on_host.back();
  auto line = [&](std::int64_t i) { return ids_.rows(i, i + 1).view({width}).rows(0, num_rows); };
  Context c;
  c.stream = &stream;
  c.parameters = store_;
  c.sizes = batch_of(num_rows);
  c.positions = line(1);
  c.key_begin = line(2);
  c.key_end = line(3);
  c.rotary_table = model_->rotary_table();
  return c;
}

/// The rows whose logits are wanted, one behind another; returns how many.
std::int64_t Decoder::select(const Stream& stream, std::span<const DecoderRun> runs, const Tensor& x_MD) {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const std::int64_t wanted = runs[i].logits, end = runs_[i].row + runs_[i].count;
    if (wanted == 0) continue;
    copy(stream, x_MD.rows(end - wanted, end), selected_.rows(count, count + wanted));
    count += wanted;
  }
  return count;
}

std::span<const double> Decoder::step(const Stream& stream, std::span<const DecoderRun> runs) {
  const std::int64_t M = place(runs);
  const Context c = fill(stream, runs, M);
  Tensor x = x_.rows(0, M), y = y_.rows(0, M);
  embedding_forward(stream, ids_.rows(0, 1).view({sizes_.rows}).rows(0, M), store_->weight(model_->embedding()), x);
  for (std::size_t l = 0; l < model_->blocks().size(); ++l) {
    const Block& b = model_->blocks()[l];
    Block::Saved& saved = (b.is_moe() ? moe_ : dense_).of(b.sizes(c.sizes, store_->types()));
    if (latents_)
      latents_->attend(c, *b.attention().mla(), l, runs_, x, saved.attention.mla, saved.h_mD);
    else
      keys_values_->attend(c, *b.attention().gqa(), l, runs_, x, saved.attention.gqa, saved.h_mD);
    b.feed_forward(c, saved.h_mD, saved, y, {});
    std::swap(x, y);
  }
  for (const DecoderRun& r : runs) lengths_[static_cast<std::size_t>(r.text)] += std::ssize(r.tokens);
  const std::int64_t wanted = select(stream, runs, x);
  if (wanted == 0) return {};
  const Tensor logits = logits_.rows(0, wanted);
  model_->head().logits(c, selected_.rows(0, wanted), head_, logits);
  const OnHost on_host(stream, logits);
  result_.resize(static_cast<std::size_t>(logits.num_elements()));
  for (std::size_t i = 0; i < result_.size(); ++i)
    result_[i] = logits.dtype == DType::f64 ? on_host.tensor().as<double>()[i]
                                            : static_cast<double>(on_host.tensor().as<float>()[i]);
  return result_;
}

std::span<const double> Decoder::next(const Stream& stream, std::int32_t token) {
  const DecoderRun run{.tokens = {&token, 1}};
  return step(stream, {&run, 1});
}

}  // namespace fourmi
