#include "framework/model/head.h"

#include <algorithm>

#include "framework/model/cut_linear.h"
#include "kernels/ops/cross_entropy.h"
#include "kernels/ops/max_parts.h"
#include "kernels/ops/tree_sum.h"

namespace fourmi {

Tensor first_rows_of(const Tensor& memory, std::int64_t rows, std::int64_t n) {
  return memory.view({memory.num_elements()}).rows(0, rows * n).view({rows, n});
}

const char* output_matrix_name(const ModelSection& m) {
  return m.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
}

Head::Head(const ModelSection& m, const ParameterStore& store, const std::string& norm)
    : norm_{.epsilon = m.rms_norm_eps},
      norm_weight_(store.slot(norm)),
      head_(store.padded_slot(output_matrix_name(m))),
      vocab_size_(m.vocab_size),
      multi_token_(norm != "model.norm.weight") {
  V_ = head_.shape[0];
  D_ = head_.shape[1];
  first_ = store.table().find(output_matrix_name(m)).first_row;
}

std::int64_t Head::partial_rows(const BatchSizes& batch) {
  const std::int64_t leaf =
      batch.tokens_per_sequence % 16 == 0 ? batch.tokens_per_sequence / 16 : batch.tokens_per_sequence;
  return std::min(batch.rows, std::max<std::int64_t>(1, 256 / leaf) * leaf);
}

std::int64_t Head::chunk_rows(const BatchSizes& batch, std::int64_t V) {
  const std::int64_t partial = partial_rows(batch);
  if (batch.tensor == 1) return partial;
  return std::min(batch.rows, std::max<std::int64_t>(1, most_logits / (partial * V)) * partial);
}

Head::Sizes Head::sizes(const BatchSizes& batch, const ModelTypes& types) const {
  return {batch, types, D_, V_, chunk_rows(batch, V_)};
}

/// max = the largest of every rank's.
void Head::share_max(const Context& c, const Tensor& max_C, const Saved& s, const Meanwhile& meanwhile) const {
  if (!s.max_PC) return;
  const std::int64_t n = max_C.dim(0);
  const Tensor every = first_rows_of(s.max_PC, s.max_PC.dim(0), n);
  gathered(c, max_C, every, meanwhile);
  max_of_parts(*c.stream, every, max_C);
}

/// The sum over the whole vocabulary from the leaves' of every rank; the target's logit is one rank's, and 0 elsewhere.
void Head::share_sums(const Context& c, const Tensor& target_logit_C, const Tensor& sum_C, const Saved& s,
                      const Meanwhile& meanwhile) const {
  const std::int64_t n = sum_C.dim(0), leaves = c.leaves.vocabulary;
  const Tensor sums = first_rows_of(s.sum_LC, leaves, n);
  if (!s.max_PC) {
    tree_sum(*c.stream, sums, sum_C);
    return;
  }
  const std::int64_t P = s.max_PC.dim(0);
  const Tensor all_sums = first_rows_of(s.all_sum_LC, P * leaves, n);
  const Tensor target_logits = first_rows_of(s.target_logit_PC, P, n);
  RowExchange::Moves moves = c.moves();
  moves.gather(sums, all_sums);
  moves.gather(target_logit_C, target_logits);
  moves.finish(meanwhile);
  tree_sum(*c.stream, all_sums, sum_C);
  tree_sum(*c.stream, target_logits, target_logit_C);
}

void Head::chunks(const Context& c, const Tensor& targets_M, double weight, bool backward, Saved& s,
                  const Tensor& loss_M) const {
  const Stream& stream = *c.stream;
  const Tensor xn_MD = gathered(c, s.xn_mD, s.all_xn_MD);
  RowExchange::Moves moves = c.moves();
  const Tensor dxn_MD = backward ? moves.partial(s.dxn_mD) : Tensor{};
  const std::int64_t M = xn_MD.dim(0), chunk = s.logits_CV.dim(0), partial = partial_rows(c.sizes);
  // A chunk's gradients are formed while ranks exchange what they found of the next one.
  std::int64_t late_begin = 0, late_end = 0;
  const auto form_input_gradient = [&] {
    if (late_end > late_begin)
      linear_backward_input(stream, s.dlogits_CV.rows(0, late_end - late_begin), c.weight(head_),
                            dxn_MD.rows(late_begin, late_end), {}, c.leaves.vocabulary);
  };
  const auto form_weight_gradient = [&] {
    for (std::int64_t begin = late_begin; begin < late_end; begin += partial) {
      const std::int64_t end = std::min(late_end, begin + partial);
      linear_backward_weight(stream, s.dlogits_CV.rows(begin - late_begin, end - late_begin), xn_MD.rows(begin, end),
                             c.gradient(head_), c.weight_cuts);
    }
    late_begin = late_end;
  };
  for (std::int64_t begin = 0; begin < M; begin += chunk) {
    const std::int64_t end = std::min(M, begin + chunk), n = end - begin;
    const Tensor x = xn_MD.rows(begin, end), targets = targets_M.rows(begin, end);
    const Tensor logits = s.logits_CV.rows(0, n), max = s.max_C.rows(0, n), sum = s.sum_C.rows(0, n);
    const Tensor target_logit = s.target_logit_C.rows(0, n);
    const Tensor dlogits = backward ? s.dlogits_CV.rows(0, n) : Tensor{};
    linear_forward(stream, x, c.weight(head_), logits);
    mask_padding(stream, first_, vocab_size_, logits);
    softmax_max(stream, logits, max);
    share_max(c, max, s, form_input_gradient);
    const Tensor leaf_sums = first_rows_of(s.sum_LC, c.leaves.vocabulary, n);
    softmax_sum(stream, logits, max, targets, first_, leaf_sums, target_logit, c.leaves.vocabulary);
    share_sums(c, target_logit, sum, s, form_weight_gradient);
    const Tensor loss = loss_M.rows(begin, end);
    if (c.objective)
      (*c.objective)(c, {begin, first_, multi_token_, weight, logits, max, sum, targets, target_logit, loss, dlogits});
    else
      cross_entropy_finish(stream, weight, logits, max, sum, target_logit, targets, first_, loss, dlogits);
    if (!backward) continue;
    late_begin = begin, late_end = end;
    if (!moves.alone()) continue;
    form_input_gradient(), form_weight_gradient();  // while the logits are near
  }
  form_input_gradient();
  if (backward) moves.sum(dxn_MD, s.dxn_mD);
  moves.finish(form_weight_gradient);
}

void Head::forward(const Context& c, const Tensor& x_mD, const Tensor& targets_M, Saved& s,
                   const Tensor& loss_M) const {
  const OwningSpan span(c.stream->timeline(), Work::head, "head_forward");
  rms_norm_forward(*c.stream, norm_, x_mD, c.weight(norm_weight_), s.xn_mD, s.rstd_m);
  chunks(c, targets_M, 1.0, false, s, loss_M);
}

void Head::forward_backward(const Context& c, const Tensor& x_mD, const Tensor& targets_M, double weight, Saved& s,
                            const Tensor& loss_M) const {
  const OwningSpan span(c.stream->timeline(), Work::head, "head_forward_backward");
  rms_norm_forward(*c.stream, norm_, x_mD, c.weight(norm_weight_), s.xn_mD, s.rstd_m);
  chunks(c, targets_M, weight, true, s, loss_M);
}

void Head::backward(const Context& c, const Tensor& x_mD, const Saved& s, const Tensor& dx_mD) const {
  const OwningSpan span(c.stream->timeline(), Work::head, "head_backward");
  rms_norm_backward_input(*c.stream, norm_, s.dxn_mD, x_mD, c.weight(norm_weight_), s.rstd_m, dx_mD);
  rms_norm_backward_weight(*c.stream, norm_, s.dxn_mD, x_mD, s.rstd_m, c.gradient(norm_weight_), c.token_cuts);
}

void Head::logits(const Context& c, const Tensor& x_MD, Saved& s, const Tensor& logits_CV) const {
  const std::int64_t n = x_MD.dim(0);
  rms_norm_forward(*c.stream, norm_, x_MD, c.weight(norm_weight_), s.xn_mD.rows(0, n), s.rstd_m.rows(0, n));
  linear_forward(*c.stream, s.xn_mD.rows(0, n), c.weight(head_).rows(0, vocab_size_), logits_CV);
}

}  // namespace fourmi
