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

void SelfAttention::forward(const Context& c, const Tensor& x_mD, Saved& s, const Tensor& y_mD) const {
  if (mla_)
    mla_->forward(c, x_mD, s.mla, y_mD);
  else
    gqa_->forward(c, x_mD, s.gqa, y_mD);
}

void SelfAttention::recompute(const Context& c, const Tensor& x_mD, Saved& s) const {
  if (mla_)
    mla_->recompute(c, x_mD, s.mla);
  else
    gqa_->recompute(c, x_mD, s.gqa);
}

void SelfAttention::backward_input(const Context& c, const Tensor& x_mD, const Saved& s, const Tensor& dy_mD,
                                   Gradients& g, const Tensor& dx_mD) const {
  if (mla_)
    mla_->backward_input(c, x_mD, s.mla, dy_mD, g.mla, dx_mD);
  else
    gqa_->backward_input(c, x_mD, s.gqa, dy_mD, g.gqa, dx_mD);
}

void SelfAttention::backward_weight(const Context& c, const Tensor& x_mD, const Saved& s, const Tensor& dy_mD,
                                    const Gradients& g) const {
  if (mla_)
    mla_->backward_weight(c, x_mD, s.mla, dy_mD, g.mla);
  else
    gqa_->backward_weight(c, x_mD, s.gqa, dy_mD, g.gqa);
}

void SelfAttention::backward(const Context& c, const Tensor& x_mD, const Saved& s, const Tensor& dy_mD, Gradients& g,
                             const Tensor& dx_mD, const Meanwhile& gathering) const {
  if (mla_) {
    mla_->backward_input(c, x_mD, s.mla, dy_mD, g.mla, dx_mD, gathering,
                         [&] { mla_->backward_weight_early(c, s.mla, dy_mD, g.mla); });
    mla_->backward_weight_down(c, x_mD, s.mla, g.mla);
  } else {
    gqa_->backward_input(c, x_mD, s.gqa, dy_mD, g.gqa, dx_mD, gathering,
                         [&] { gqa_->backward_weight_early(c, s.gqa, dy_mD, g.gqa); });
  }
}

void SelfAttention::backward_weight_late(const Context& c, const Tensor& x_mD, const Saved& s,
                                         const Gradients& g) const {
  if (mla_)
    mla_->backward_weight_late(c, x_mD, s.mla, g.mla);
  else
    gqa_->backward_weight_late(c, x_mD, s.gqa, g.gqa);
}

}  // namespace fourmi
