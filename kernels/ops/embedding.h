// Token embedding. Dtypes: table and x one of f64 f32 bf16; dtable accumulator dtype or fx128. tokens i32.
#pragma once

#include "kernels/ops/linear.h"  // Cuts

namespace fourmi {

/// Of a table that is cut over ranks: its rows are those of the tokens [first, first + V).
struct VocabularyRange {
  std::int64_t first = 0;
  std::int64_t size = 0;  ///< tokens of the whole vocabulary; 0: the table is whole
};

/// x_MD[i] = table_VD[tokens[i]]; for a token of another rank's rows -0, to which anything can be added without a
/// change. A token outside the whole vocabulary is an Error(input) naming it.
void embedding_forward(const Stream&, const Tensor& tokens_M, const Tensor& table_VD, const Tensor& x_MD,
                       const VocabularyRange& = {});
/// dtable[tokens[i]] += dx[i], ascending over i; in fx128 each token is an own partial. Tokens < 0 and those of other
/// ranks' rows are skipped.
void embedding_backward(const Stream&, const Tensor& tokens_M, const Tensor& dx_MD, const Tensor& dtable_VD,
                        const Cuts& = {}, const VocabularyRange& = {});

}  // namespace fourmi
