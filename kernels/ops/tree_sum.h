// The sum of partials by a perfect binary tree, neighbours first: ((p0 + p1) + (p2 + p3)) + ... (docs/numerics.md
// "Leaves and trees"). A rank that holds an aligned run of parts sums its subtree; the sum of the ranks' subtrees is
// then the whole to the bit. Leaf partials that lie one after another and parts received from ranks in one buffer are
// the same to it.
//
// Dtypes   parts: f64 or f32, all alike. y: that dtype, or bf16 for f32 parts. residual: y's dtype, may be y itself.
// Order    tree in the parts' dtype, then + residual, one rounding. One part: it is the sum.
// Errors   a number of parts that is no power of two (or above max_tree_parts), sizes or dtypes that do not fit: a bug.
#pragma once

#include <span>

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

inline constexpr std::int64_t max_tree_parts = 1024;

/// y = residual + tree over parts, each of y's number of elements. An absent part (default Tensor) counts as zeros.
void tree_sum(const Stream&, std::span<const Tensor> parts, const Tensor& y, const Tensor& residual = {});
/// The parts one after another in one buffer: parts_P [P, ...].
void tree_sum(const Stream&, const Tensor& parts_P, const Tensor& y, const Tensor& residual = {});

}  // namespace fourmi
