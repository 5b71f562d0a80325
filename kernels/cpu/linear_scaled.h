// Products of e4m3 elements with scales (docs/numerics.md "FP8 products"): how the two sides of a call lie in memory,
// and the product of one group of rows.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/cpu/linear_problem.h"
#include "kernels/numerics/float8.h"

namespace fourmi::linear {

/// One side of a product: lines (the output's rows or columns), each along the summed index.
struct ScaledSide {
  enum class Layout : std::uint8_t {
    rows,           ///< of e4m3_rows: a line is a row
    mx_rows,        ///< of mxe4m3_rows, alike
    panels,         ///< of e4m3_panels: a line is a row
    panels_across,  ///< of e4m3_panels: a line is a column
    columns,        ///< of ColumnScaled: a line is a column
  };
  static constexpr std::int64_t block = ScaledFormat::block;

  Layout layout = Layout::rows;
  const std::uint8_t* elements = nullptr;  ///< of line 0 at summed index 0
  std::int64_t width = 0;                  ///< elements of a stored row
  std::int64_t height = 0;                 ///< panels: rows of the matrix
  const float* scales = nullptr;           ///< columns: of line 0 in the first group of the sum

  /// Is the summed index contiguous? (Else lines are.)
  bool is_along() const { return layout <= Layout::panels; }
  /// Bytes from one line, or one summed index, to the next. A panel's end is a jump: at() knows it.
  std::int64_t stride() const {
    if (layout == Layout::rows) return ScaledFormat::row_bytes(DType::e4m3_rows, width);
    if (layout == Layout::mx_rows) return ScaledFormat::row_bytes(DType::mxe4m3_rows, width);
    return width;
  }
  const std::uint8_t* at(std::int64_t line, std::int64_t s) const {
    const std::int64_t row = is_along() ? line : s, col = is_along() ? s : line;
    return elements + row * stride() + col + (is_panels() ? row / block * panel_scales() : 0);
  }
  /// The decode scale of a line in a group of the sum.
  float scale(std::int64_t line, std::int64_t group) const {
    switch (layout) {
      case Layout::rows:
        return load(elements + line * stride() + width + 4 * group);
      case Layout::mx_rows:
        return static_cast<float>(float8_e8m0::from_bits(elements[line * stride() + width + group]));
      case Layout::panels:
        return panel_scale(line / block, group);
      case Layout::panels_across:
        return panel_scale(group, line / block);
      case Layout::columns:
        break;
    }
    return scales[group * width + line];
  }
  /// The scales of lines [line, line + count), at most 128 of which share a panel.
  void scales_of(std::int64_t line, std::int64_t count, std::int64_t group, float* out) const {
    if (is_panels())
      std::fill_n(out, count, scale(line, group));
    else if (layout == Layout::columns)
      std::copy_n(scales + group * width + line, count, out);
    else
      for (std::int64_t i = 0; i < count; ++i) out[i] = scale(line + i, group);
  }
  /// Do 128 lines, counted from the first, share a scale?
  bool is_panels() const { return layout == Layout::panels || layout == Layout::panels_across; }

 private:
  std::int64_t panel_scales() const { return ScaledFormat::panel_scale_bytes(width); }
  float panel_scale(std::int64_t panel, std::int64_t col_block) const {
    const std::int64_t rows_before_scales = std::min(height, (panel + 1) * block);
    return load(elements + rows_before_scales * width + panel * panel_scales() + 4 * col_block);
  }
  /// Rows of any length: a scale may lie at any address.
  static float load(const std::uint8_t* p) {
    float f;
    std::memcpy(&f, p, sizeof(f));
    return f;
  }
};

/// out(i, j) = sum over s of a(i, s) b(j, s), for one group of rows.
struct ScaledProduct : Sums {
  ScaledSide a, b;
};

/// A whole call. Its pointers to rows and to the other side are to elements with scales.
struct ScaledProblem {
  Problem call;
  ScaledSide::Layout rows = ScaledSide::Layout::rows, other = ScaledSide::Layout::panels;
  const float *rows_scales = nullptr, *other_scales = nullptr;  ///< columns
  /// Elements of the sum that share scales: 128, the chains of which are promoted, or 32 (mx).
  std::int64_t group = ScaledFormat::block;
  Float8Sum sum;
  const std::int64_t* first_group = nullptr;  ///< of each group of rows, for columns of a weight gradient; null: 0

  bool promotes() const { return group == ScaledFormat::block; }

  ScaledProduct product(std::int64_t g) const {
    const std::int64_t begin = call.group_begin(g);
    ScaledProduct p{call.sums(g), {}, {}};
    const bool over_rows = call.kind == Kind::backward_weight;
    p.a = side(rows, call.rows, rows_scales, call.kind == Kind::forward ? call.num_in : call.num_out, begin);
    p.b = side(other, call.other, other_scales, call.num_in, over_rows ? begin : g * call.num_out);
    p.b.height = call.num_out;
    if (over_rows) {
      const std::int64_t first = first_group ? first_group[g] : 0;
      p.a.scales += first * p.a.width, p.b.scales += first * p.b.width;
    } else if (p.b.scales) {
      p.b.scales += g * ScaledFormat::num_blocks(call.num_out, group) * p.b.width;
    }
    return p;
  }

 private:
  /// From stored row `first_row` on; of panels that is the first of a matrix.
  ScaledSide side(ScaledSide::Layout layout, const void* data, const float* scales, std::int64_t width,
                  std::int64_t first_row) const {
    using Layout = ScaledSide::Layout;
    ScaledSide s{layout, static_cast<const std::uint8_t*>(data), width, 0, scales};
    if (layout == Layout::panels || layout == Layout::panels_across)
      s.elements += call.num_out == 0 ? 0 : first_row / call.num_out * ScaledFormat::panel_bytes(call.num_out, width);
    else
      s.elements += first_row * s.stride();
    return s;
  }
};

/// The inputs of a call, at least one of which has scales.
struct ScaledInputs {
  const char* name;  ///< of the operation
  const Tensor &first, &second;
  const ColumnScaled *first_columns, *second_columns;  ///< what `first`, `second` are the elements of, or null
  const Float8Sum& sum;
};

/// The call's shapes are checked. Refuses inputs that do not go together, then hands the problem to the stream's
/// instruction set.
void run_scaled(const Stream&, const Problem&, const ScaledInputs&);

/// One product a group by the definition: the oracle.
void run_scaled_portable(const Stream&, const ScaledProblem&);
/// The same bits by blocked microkernels.
void run_scaled_avx2(const Stream&, const ScaledProblem&);
void run_scaled_avx512(const Stream&, const ScaledProblem&);

}  // namespace fourmi::linear
