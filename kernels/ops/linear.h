// Linear maps by our own GEMM microkernel (docs/numerics.md "GEMM"), plain and grouped over experts.
//
// Shapes   M rows (tokens), K in features, N out features, R rows sorted by expert, E experts.
// Mathematics   y = x w^T,   dx = dy w,   dw += dy^T x.     Units: none.
// Order of sums   per output element one chain, ascending over the summed index, in the accumulator dtype (f64 for f64,
// else
//   f32); for bf16 inputs elements go in pairs, odd first, as vdpbf16ps does, denormals to zero. The chain starts from
//   zero; a residual (or what dw holds) is added to the finished chain once, then one rounding to the output's dtype.
//   No element's bits depend on M, on other rows, on threads or on the instruction set.
// Leaves   of forward and backward_input: the summed index is cut into `leaves` equal consecutive runs, each a chain of
//   its own from zero; a perfect binary tree (neighbours first) joins them in the accumulator dtype, then residual and
//   rounding. So ranks that hold an aligned run of leaves each, write the accumulator dtype and join by tree_sum give
//   the bits of one rank with all of them (docs/numerics.md "Leaves and trees").
// Dtypes   (x, w, y) and (dy, w, dx): (f64,f64,f64), (f32,f32,f32), (bf16,bf16,bf16), (bf16,bf16,f32). dw: f64 for f64
//   inputs, else f32 or fx128. Both inputs of a call have one dtype. A residual has the output's dtype and may be the
//   same memory.
// FP8   inputs whose elements are e4m3 and share scales; outputs as for bf16 (docs/numerics.md "FP8 products"):
//     y        x e4m3_rows, w e4m3_panels;    x and w mxe4m3_rows
//     dx       dy e4m3_rows, w e4m3_panels;   dy mxe4m3_rows, w ColumnScaled (groups of 32 rows)
//     dw       dy and x ColumnScaled, both with groups of 128 or of 32 rows, whose runs are those of Cuts and offsets
//   Each leaf has whole groups (of 128 elements of the sum; mx: of 32). Float8Sum is for groups of 128 alone.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/ops/column_scaled.h"
#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// Where the sum over rows of a weight gradient is cut into partials (docs/numerics.md L3). Each partial is an own
/// chain from zero; partials are added to dw in ascending order (f32, f64) or exactly (fx128).
struct Cuts {
  /// Rows per partial counted on token indices; 0: one partial over all rows of the call (per expert in grouped calls).
  std::int64_t rows = 0;
  /// For grouped calls: the token of each row (rows of one expert are ascending in it); a partial holds the rows of one
  /// expert whose token / rows is equal. Null: the row is the token.
  const std::int32_t* row_token = nullptr;
  /// fx128 only: set to 1 when a partial was not finite or had magnitude >= 2^40 (it is then left out). Never cleared.
  std::int32_t* refused = nullptr;
};

/// How the products of e4m3 elements with scales of 128 are summed.
struct Float8Sum {
  enum class Accumulator : std::uint8_t {
    f32,
    hopper,  ///< imitates the shorter one of Hopper's tensor cores, to see its error here; slow on every instruction
             ///< set
  };
  Accumulator accumulator = Accumulator::f32;
  /// hopper: elements of the sum from promotion to promotion, a multiple of 128; 0: once, at the end of a leaf or
  /// partial. All its groups must have equal scales (one for the tensor), else the call is refused.
  std::int64_t promotion = 128;
};

/// The most leaves of a sum; their number is a power of two that divides the summed index.
inline constexpr std::int64_t max_leaves = 16;

/// y_MN = residual_MN + x_MK w_NK^T; leaves cut K.
void linear_forward(const Stream&, const Tensor& x_MK, const Tensor& w_NK, const Tensor& y_MN,
                    const Tensor& residual_MN = {}, std::int64_t leaves = 1, const Float8Sum& = {});
/// dx_MK = residual_MK + dy_MN w_NK; leaves cut N.
void linear_backward_input(const Stream&, const Tensor& dy_MN, const Tensor& w_NK, const Tensor& dx_MK,
                           const Tensor& residual_MK = {}, std::int64_t leaves = 1, const Float8Sum& = {});
void linear_backward_input(const Stream&, const Tensor& dy_MN, const ColumnScaled& w_NK, const Tensor& dx_MK,
                           const Tensor& residual_MK = {}, std::int64_t leaves = 1, const Float8Sum& = {});
/// dw_NK += dy_MN^T x_MK
void linear_backward_weight(const Stream&, const Tensor& dy_MN, const Tensor& x_MK, const Tensor& dw_NK,
                            const Cuts& = {}, const Float8Sum& = {});
void linear_backward_weight(const Stream&, const ColumnScaled& dy_MN, const ColumnScaled& x_MK, const Tensor& dw_NK,
                            const Cuts& = {}, const Float8Sum& = {});

/// Expert e owns rows [offsets[e], offsets[e+1]) of x and y; offsets has E+1 entries, is ascending, may repeat (an
/// expert without rows), and offsets[E] may be smaller than the tensors' rows: rows beyond are neither read nor
/// written.
void grouped_linear_forward(const Stream&, const Tensor& x_RK, const Tensor& w_ENK,
                            std::span<const std::int32_t> offsets, const Tensor& y_RN, std::int64_t leaves = 1,
                            const Float8Sum& = {});
void grouped_linear_backward_input(const Stream&, const Tensor& dy_RN, const Tensor& w_ENK,
                                   std::span<const std::int32_t> offsets, const Tensor& dx_RK, std::int64_t leaves = 1,
                                   const Float8Sum& = {});
void grouped_linear_backward_weight(const Stream&, const Tensor& dy_RN, const Tensor& x_RK,
                                    std::span<const std::int32_t> offsets, const Tensor& dw_ENK, const Cuts& = {},
                                    const Float8Sum& = {});
void grouped_linear_backward_input(const Stream&, const Tensor& dy_RN, const ColumnScaled& w_ENK,
                                   std::span<const std::int32_t> offsets, const Tensor& dx_RK, std::int64_t leaves = 1,
                                   const Float8Sum& = {});
void grouped_linear_backward_weight(const Stream&, const ColumnScaled& dy_RN, const ColumnScaled& x_RK,
                                    std::span<const std::int32_t> offsets, const Tensor& dw_ENK, const Cuts& = {},
                                    const Float8Sum& = {});

}  // namespace fourmi
