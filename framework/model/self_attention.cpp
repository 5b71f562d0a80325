#include "framework/model/self_attention.h"

namespace fourmi {

SelfAttention::SelfAttention(const ModelSection& m, const ParameterStore& store, std::int64_t layer) {
  if (has_latent_attention(m))
    mla_.emplace(m, store, layer);
  else
    gqa_.emplace(m, store, layer);
}

SelfAttention::Sizes SelfAttention::sizes(const BatchSizes& batch, const ModelTypes& types) const {
  Sizes s;
  if (mla_) s.mla = mla_->sizes(batch, types);
  if (gqa_) s.gqa = gqa_->sizes(batch, types);
  return s;
}

void SelfAttention::forward(const Context& c, const Tensor& x_MD, Saved& s, const Tensor& y_MD) const {
  if (mla_)
    mla_->forward(c, x_MD, s.mla, y_MD);
  else
    gqa_->forward(c, x_MD, s.gqa, y_MD);
}

void SelfAttention::recompute(const Context& c, const Tensor& x_MD, Saved& s) const {
  if (mla_)
    mla_->recompute(c, x_MD, s.mla);
  else
    gqa_->recompute(c, x_MD, s.gqa);
}

void SelfAttention::backward_input(const Context& c, const Tensor& x_MD, const Saved& s, const Tensor& dy_MD,
                                   Gradients& g, const Tensor& dx_MD) const {
  if (mla_)
    mla_->backward_input(c, x_MD, s.mla, dy_MD, g.mla, dx_MD);
  else
    gqa_->backward_input(c, x_MD, s.gqa, dy_MD, g.gqa, dx_MD);
}

void SelfAttention::backward_weight(const Context& c, const Tensor& x_MD, const Saved& s, const Tensor& dy_MD,
                                    const Gradients& g) const {
  if (mla_)
    mla_->backward_weight(c, x_MD, s.mla, dy_MD, g.mla);
  else
    gqa_->backward_weight(c, x_MD, s.gqa, dy_MD, g.gqa);
}

}  // namespace fourmi
