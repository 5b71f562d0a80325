// What the three linear maps have in common once the door has checked them: per group (expert) a product of two strided
// matrices, a rule that cuts its sum into parts, and an output that finishes each part - or, where the parts are
// leaves, the root of the tree over them.
#pragma once

#include <cstdint>

#include "kernels/cpu/row_groups.h"
#include "kernels/ops/linear.h"

namespace fourmi::linear {

/// Where finished chains go (docs/numerics.md "Linear", 4 and 5). fx128: added exactly; else stored, after adding
/// residual.
struct Output {
  std::byte* data = nullptr;
  const std::byte* residual = nullptr;  ///< same dtype and stride; dw itself when accumulating; null: nothing is added
  DType dtype = DType::f32;
  std::int64_t row_stride = 0;  ///< elements
  std::int32_t* refused = nullptr;
};

/// The output of one group, and the rule that cuts its sum.
struct Sums {
  std::int64_t rows = 0, cols = 0, sum = 0;
  Output out;
  std::int64_t cut_rows = 0;                ///< 0: the sum has one part, even when empty
  const std::int32_t* row_token = nullptr;  ///< token of summed index 0; null: first_token + s
  std::int64_t first_token = 0;
  std::int64_t leaves = 1;  ///< above 1: the sum's parts are so many leaves, and their tree is finished once

  /// End of the part of the sum that begins at `begin`. Columns with scales have their groups by the same rule.
  std::int64_t part_end(std::int64_t begin) const {
    if (row_token != nullptr) return row_run_end({.rows = cut_rows, .row_token = row_token}, begin, sum);
    return row_run_end({.rows = cut_rows}, first_token + begin, first_token + sum) - first_token;
  }
};

/// out(i, j) = sum over s of a(i, s) b(j, s), for one group. Strides in elements; one stride of each operand is 1.
template <class T>
struct Product : Sums {
  const T* a = nullptr;
  const T* b = nullptr;
  std::int64_t a_row = 0, a_sum = 0, b_col = 0, b_sum = 0;
};

enum class Kind : std::uint8_t { forward, backward_input, backward_weight };

/// A whole call. `rows` is x or dy (its rows sorted by group), `other` is w, or x for backward_weight.
struct Problem {
  Kind kind = Kind::forward;
  const void* rows = nullptr;
  const void* other = nullptr;
  std::int64_t num_in = 0, num_out = 0;   ///< K, N
  std::span<const std::int32_t> offsets;  ///< of groups; empty: one group of num_rows rows
  std::int64_t num_rows = 0;              ///< of the tensors; groups may leave some out
  Output out;                             ///< of group 0
  Cuts cuts;
  std::int64_t leaves = 1;

  std::int64_t num_groups() const { return offsets.empty() ? 1 : static_cast<std::int64_t>(offsets.size()) - 1; }
  std::int64_t group_begin(std::int64_t g) const { return offsets.empty() ? 0 : offsets[static_cast<std::size_t>(g)]; }
  std::int64_t group_end(std::int64_t g) const {
    return offsets.empty() ? num_rows : offsets[static_cast<std::size_t>(g) + 1];
  }

  Sums sums(std::int64_t g) const {
    const std::int64_t begin = group_begin(g), count = group_end(g) - begin;
    Sums p;
    p.out = out;
    switch (kind) {
      case Kind::forward:
        p.rows = count, p.cols = num_out, p.sum = num_in;
        break;
      case Kind::backward_input:
        p.rows = count, p.cols = num_in, p.sum = num_out;
        break;
      case Kind::backward_weight:
        p.rows = count == 0 ? 0 : num_out;  // no rows, no partial: dw keeps its bits
        p.cols = num_in, p.sum = count;
        p.cut_rows = cuts.rows;
        p.row_token = cuts.row_token ? cuts.row_token + begin : nullptr;
        p.first_token = begin;
        break;
    }
    if (leaves > 1 && p.sum > 0) p.leaves = leaves, p.cut_rows = p.sum / leaves;
    const std::int64_t skipped = kind == Kind::backward_weight ? g * num_in * num_out : begin * p.cols;
    p.out.row_stride = p.cols;
    p.out.data += skipped * size_of(out.dtype);
    if (p.out.residual) p.out.residual += skipped * size_of(out.dtype);
    return p;
  }

  template <class T>
  Product<T> product(std::int64_t g) const {
    const T* first = static_cast<const T*>(rows);
    const T* second = static_cast<const T*>(other);
    const std::int64_t begin = group_begin(g), weights = g * num_in * num_out;
    switch (kind) {
      case Kind::forward:
        return {sums(g), first + begin * num_in, second + weights, num_in, 1, num_in, 1};
      case Kind::backward_input:
        return {sums(g), first + begin * num_out, second + weights, num_out, 1, 1, num_in};
      case Kind::backward_weight:
        break;
    }
    return {sums(g), first + begin * num_out, second + begin * num_in, 1, num_out, 1, num_in};
  }
};

/// One product a group by the definition: the oracle. T: double, float, bfloat16.
template <class T>
void run_portable(const Stream&, const Problem&);
/// The same bits by blocked microkernels.
template <class T>
void run_avx2(const Stream&, const Problem&);
template <class T>
void run_avx512(const Stream&, const Problem&);  // float, bfloat16

}  // namespace fourmi::linear
