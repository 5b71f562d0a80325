#include "framework/model/head.h"

#include <algorithm>

#include "kernels/ops/cross_entropy.h"

namespace fourmi {

namespace {
/// Rows a chunk: about 256, and whole leaves of T/16 tokens, so that mode layout's partials never straddle two chunks.
std::int64_t chunk_rows(const BatchSizes& batch) {
  const std::int64_t leaf =
      batch.tokens_per_sequence % 16 == 0 ? batch.tokens_per_sequence / 16 : batch.tokens_per_sequence;
  return std::min(batch.rows, std::max<std::int64_t>(1, 256 / leaf) * leaf);
}
}  // namespace

Head::Head(const ModelSection& m, const ParameterStore& store, const std::string& norm)
    : D_(m.hidden_size),
      vocab_(m.vocab_size),
      norm_{.epsilon = m.rms_norm_eps},
      norm_weight_(store.slot(norm)),
      head_(store.slot(m.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight")) {}

Head::Sizes Head::sizes(const BatchSizes& batch, const ModelTypes& types) const {
  return {batch, types, D_, vocab_, chunk_rows(batch)};
}

void Head::chunks(const Context& c, const Tensor& targets_M, double weight, bool backward, Saved& s,
                  const Tensor& loss_M) const {
  const Stream& stream = *c.stream;
  const std::int64_t M = s.xn_MD.dim(0), chunk = s.logits_CV.dim(0);
  for (std::int64_t begin = 0; begin < M; begin += chunk) {
    const std::int64_t end = std::min(M, begin + chunk), n = end - begin;
    const Tensor x = s.xn_MD.rows(begin, end), targets = targets_M.rows(begin, end);
    const Tensor logits = s.logits_CV.rows(0, n), max = s.max_C.rows(0, n), sum = s.sum_C.rows(0, n);
    const Tensor target_logit = s.target_logit_C.rows(0, n);
    const Tensor dlogits = backward ? s.dlogits_CV.rows(0, n) : Tensor{};
    linear_forward(stream, x, c.weight(head_), logits);
    softmax_max(stream, logits, max);
    softmax_sum(stream, logits, max, targets, 0, sum, target_logit);
    cross_entropy_finish(stream, weight, logits, max, sum, target_logit, targets, 0, loss_M.rows(begin, end), dlogits);
    if (!backward) continue;
    linear_backward_input(stream, dlogits, c.weight(head_), s.dxn_MD.rows(begin, end));
    linear_backward_weight(stream, dlogits, x, c.gradient(head_), c.weight_cuts);
  }
}

void Head::forward(const Context& c, const Tensor& x_MD, const Tensor& targets_M, Saved& s,
                   const Tensor& loss_M) const {
  const OwningSpan span(c.stream->timeline(), Work::head, "head_forward");
  rms_norm_forward(*c.stream, norm_, x_MD, c.weight(norm_weight_), s.xn_MD, s.rstd_M);
  chunks(c, targets_M, 1.0, false, s, loss_M);
}

void Head::forward_backward(const Context& c, const Tensor& x_MD, const Tensor& targets_M, double weight, Saved& s,
                            const Tensor& loss_M) const {
  const OwningSpan span(c.stream->timeline(), Work::head, "head_forward_backward");
  rms_norm_forward(*c.stream, norm_, x_MD, c.weight(norm_weight_), s.xn_MD, s.rstd_M);
  chunks(c, targets_M, weight, true, s, loss_M);
}

void Head::backward(const Context& c, const Tensor& x_MD, const Saved& s, const Tensor& dx_MD) const {
  const OwningSpan span(c.stream->timeline(), Work::head, "head_backward");
  rms_norm_backward_input(*c.stream, norm_, s.dxn_MD, x_MD, c.weight(norm_weight_), s.rstd_M, dx_MD);
  rms_norm_backward_weight(*c.stream, norm_, s.dxn_MD, x_MD, s.rstd_M, c.gradient(norm_weight_), c.token_cuts);
}

void Head::logits(const Context& c, const Tensor& x_MD, Saved& s, const Tensor& logits_CV) const {
  const std::int64_t n = x_MD.dim(0);
  rms_norm_forward(*c.stream, norm_, x_MD, c.weight(norm_weight_), s.xn_MD.rows(0, n), s.rstd_M.rows(0, n));
  linear_forward(*c.stream, s.xn_MD.rows(0, n), c.weight(head_), logits_CV);
}

}  // namespace fourmi
