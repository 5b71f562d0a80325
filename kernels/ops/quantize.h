// FP8 elements that share scales: from floats, to floats, and from one grouping to another (docs/numerics.md "FP8").
// Recipe: DeepSeek-V3 report 3.3; microscaling formats (OCP MX 1.0).
//
// Shapes   M rows, K columns; of weights [.., N, K]. A group is 1 x 128 of a row (e4m3_rows), 128 x 128 of a matrix
//   (e4m3_panels), 1 x 32 of a row (mxe4m3_rows) or 128 (32) x 1 of a column (ColumnScaled); the last one of a row,
//   matrix or run may be shorter. Units: none.
// Mathematics   a group has a decode scale s; value = element * s. s = max(amax, floor) / 448, amax the group's largest
//   magnitude; element = e4m3(x * (1 / s)), one division a group, one multiplication, one rounding to nearest even.
//   s = 1 where amax is 0. Where it is not finite s is NaN, and so are all elements (0x7f).
// Dtypes   x: f32 or bf16.
#pragma once

#include <span>

#include "kernels/numerics/float8.h"
#include "kernels/ops/column_scaled.h"
#include "kernels/ops/linear.h"  // Cuts
#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// How groups get their scales. mxe4m3_rows have powers of two whatever `kind` says.
struct Scaling {
  ScaleKind kind = ScaleKind::f32;
  float floor = 0;  ///< least amax of a group; for activations only (numerics N5)
};

/// What quantising did, for the guard. Calls add to it. Its sums are chains in f64 over a call's elements in the order
/// in which they are written; a call that fills it runs on one thread.
struct QuantizeStatistics {
  std::int64_t num_elements = 0;
  std::int64_t num_saturated = 0;   ///< stored as 448 or -448; with f32 scales that is at least one a group
  std::int64_t num_underflows = 0;  ///< not zero, stored as zero
  std::int64_t num_not_finite = 0;  ///< in groups whose amax is not finite; they enter neither sum
  float amax = 0;                   ///< NaN if any element is
  double squared_error = 0, squares = 0;
};

/// q = x, each group by its own amax. q: e4m3_rows or mxe4m3_rows, or e4m3_panels of two or more dims; bytes between
/// the scales and the next row become zeros.
void quantize(const Stream&, const Tensor& x, const Tensor& q, const Scaling&, QuantizeStatistics* = nullptr);

/// One scale for many groups ("current scaling"). `runs` cuts the rows (all dims but the last, flattened) into runs
/// [runs[i], runs[i+1]); rows outside are not touched. Of e4m3_panels a run is whole panels.
/// amax_G[i] = largest magnitude in run i (f32; NaN if it has one, 0 of an empty run). Ranks that share a tensor take
/// the maximum of theirs in between.
void largest_magnitudes(const Stream&, const Tensor& x, std::span<const std::int32_t> runs, const Tensor& amax_G);
/// Every group of run i gets the scale of amax_G[i].
void quantize_by(const Stream&, const Tensor& x, const Tensor& q, const Scaling&, std::span<const std::int32_t> runs,
                 const Tensor& amax_G, QuantizeStatistics* = nullptr);

/// The groups of 1 x 128 in a block of 128 x 128, blocks counted from the first row and column, share the block's
/// scale: the control that diverges (DeepSeek-V3 report, appendix B.2). q_MK: e4m3_rows.
void quantize_blocks(const Stream&, const Tensor& x_MK, const Tensor& q_MK, const Scaling&,
                     QuantizeStatistics* = nullptr);

/// y = element * s, one rounding. y: f32 (exact for powers of two) or bf16 (then exact too, in its range).
void dequantize(const Stream&, const Tensor& q, const Tensor& y);

/// Where the scale of a column's group comes from.
enum class ColumnScale : std::uint8_t {
  f32,           ///< the group's amax, as in quantize
  power_of_two,  ///< alike; exact where q's scales are powers of two, unless an element underflows
  largest,       ///< the largest of the group's scales in q: what has one scale keeps it
};
/// Rows become columns: d = element * s (f32), then new elements of the groups of each column, without going back to x.
/// q_MK: e4m3_rows or mxe4m3_rows. Runs: `offsets` (experts; empty: all rows) and Cuts as in linear_backward_weight; of
/// experts' weights [E * N, K] Cuts.rows = N. Rows beyond the last offset and scales of groups that do not exist are
/// neither read nor written. *lossy += number of elements whose new value is not d.
void regroup_columns(const Stream&, const Tensor& q_MK, const ColumnScaled& columns, ColumnScale,
                     std::span<const std::int32_t> offsets = {}, const Cuts& = {}, std::int64_t* lossy = nullptr);

}  // namespace fourmi
