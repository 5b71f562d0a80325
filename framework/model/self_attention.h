// A block's attention: multi-head latent (mla.h) or grouped-query (gqa.h), by the family. Pre-norm and residual are
// included: y = x + o_proj(attention(input_layernorm(x))).
#pragma once

#include <optional>

#include "framework/model/gqa.h"
#include "framework/model/mla.h"

namespace fourmi {

class SelfAttention {
 public:
  SelfAttention(const ModelSection& model, const ParameterStore& store, std::int64_t layer);

  /// Exactly one of the two is there, here and in the class.
  struct Sizes {
    std::optional<Mla::Sizes> mla;
    std::optional<Gqa::Sizes> gqa;
  };
  Sizes sizes(const BatchSizes& batch, const ModelTypes& types) const;

  struct Saved {
    Mla::Saved mla;
    Gqa::Saved gqa;
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      if (s.mla) mla.fields(*s.mla, visit);
      if (s.gqa) gqa.fields(*s.gqa, visit);
    }
  };
  struct Gradients {
    Mla::Gradients mla;
    Gqa::Gradients gqa;
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      if (s.mla) mla.fields(*s.mla, visit);
      if (s.gqa) gqa.fields(*s.gqa, visit);
    }
  };

  void forward(const Context&, const Tensor& x_mD, Saved&, const Tensor& y_mD) const;
  /// Makes again what backward reads of the shared fields, from the needed ones (Recompute::selective); `full` is
  /// forward again.
  void recompute(const Context&, const Tensor& x_mD, Saved&) const;
  void backward_input(const Context&, const Tensor& x_mD, const Saved&, const Tensor& dy_mD, Gradients&,
                      const Tensor& dx_mD) const;
  void backward_weight(const Context&, const Tensor& x_mD, const Saved&, const Tensor& dy_mD, const Gradients&) const;
  /// backward_input and what it leaves time for: the weight gradients whose inputs are known while sums travel.
  /// `gathering`: what is done while every rank's dy travels. backward_weight_late is the rest.
  void backward(const Context&, const Tensor& x_mD, const Saved&, const Tensor& dy_mD, Gradients&, const Tensor& dx_mD,
                const Meanwhile& gathering) const;
  void backward_weight_late(const Context&, const Tensor& x_mD, const Saved&, const Gradients&) const;

  const Mla* mla() const { return mla_ ? &*mla_ : nullptr; }
  const Gqa* gqa() const { return gqa_ ? &*gqa_ : nullptr; }

 private:
  std::optional<Mla> mla_;
  std::optional<Gqa> gqa_;
};

}  // namespace fourmi
