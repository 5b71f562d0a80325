// Token embedding. Dtypes: table and x one of f64 f32 bf16; dtable accumulator dtype or fx128. tokens i32.
#pragma once

#include "kernels/ops/linear.h"  // Cuts

namespace fourmi {

/// x_MD[i] = table_VD[tokens[i]]. A token outside [0, V) is an Error(input) naming it.
void embedding_forward(const Stream&, const Tensor& tokens_M, const Tensor& table_VD, const Tensor& x_MD);
/// dtable[tokens[i]] += dx[i], ascending over i; in fx128 each token is an own partial. Tokens < 0 are skipped.
void embedding_backward(const Stream&, const Tensor& tokens_M, const Tensor& dx_MD, const Tensor& dtable_VD,
                        const Cuts& = {});

}  // namespace fourmi
