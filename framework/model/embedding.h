// The embedding of tokens, whose rows the tensor axis cuts: each rank looks up the tokens that it holds, and the
// others' are zero in its sum (Shoeybi et al. 2019, section 3).
#pragma once

#include "framework/model/context.h"
#include "kernels/ops/embedding.h"

namespace fourmi {

class Embedding {
 public:
  Embedding(const ModelSection& model, const ParameterStore& store);

  /// tokens: of all rows of the micro-batch; x: this rank's rows.
  void forward(const Context&, const Tensor& tokens_M, const Tensor& x_mD) const;
  /// `all_dx`: memory for every rank's rows, absent where this rank is alone. Tokens below 0 count for nothing.
  void backward(const Context&, const Tensor& tokens_M, const Tensor& dx_mD, const Tensor& all_dx_MD,
                const Meanwhile& gathering = {}) const;

  const Slot& slot() const { return table_; }

 private:
  Slot table_;
  VocabularyRange range_;
};

}  // namespace fourmi
