// Exact sums for scalars that every rank must agree on to the bit (docs/numerics.md L10), and small element-wise
// helpers.
#pragma once

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// Largest magnitude; NaN if any element is NaN, infinity if any is infinite. f64, f32.
double max_abs(const Stream&, const Tensor& x);

/// Sum of squares relative to a common exponent, exact: each element's square is formed in fp64, scaled by 2^(60 - 2 e)
/// with 2^e > the global maximum magnitude, and truncated to an integer; integers add in any order to the same total.
/// `exponent` is e, common to all ranks (frexp of the group's max_abs).
int128 sum_squares(const Stream&, const Tensor& x, int exponent);
/// sqrt(total * 2^(2e - 60)) in fp64.
double norm_from(int128 total, int exponent);

/// Exact sum of per-token losses (f32 or f64, finite): fixed point, unit 2^-64, each value rounded to the unit.
int128 sum_fixed(const Stream&, const Tensor& x);
double from_fixed(int128 total);

/// dst = src, converted with one rounding; from fx128 to f32 or f64 also (nearest, ties to even).
void convert(const Stream&, const Tensor& src, const Tensor& dst);
void fill_zero(const Stream&, const Tensor& x);
/// dst += src in ascending rank order is built of this: dst = dst + src, element-wise (f64, f32; fx128 exactly).
void add_in_place(const Stream&, const Tensor& src, const Tensor& dst);

}  // namespace fourmi
