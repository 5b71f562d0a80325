#include "framework/model/products.h"

#include <algorithm>

#include "kernels/ops/permute.h"
#include "kernels/ops/quantize.h"
#include "kernels/ops/swiglu.h"

namespace fourmi {

namespace {

Tensor operand(const Context& c, const Scaling& scaling, const Tensor& x, const Tensor& scaled) {
  if (!scaled) return x;
  quantize(*c.stream, x, scaled, scaling);
  return scaled;
}

ColumnMemory::Pair regrouped(const Context& c, const Tensor& dy_MN, const Tensor& x_MK,
                             std::span<const std::int32_t> offsets, const Cuts& cuts) {
  const ColumnMemory::Pair both = c.column_memory->pair(dy_MN.dim(0), dy_MN.dim(1), x_MK.dim(1));
  regroup_columns(*c.stream, dy_MN, both.dy, c.types().column_scale, offsets, cuts);
  regroup_columns(*c.stream, x_MK, both.x, c.types().column_scale, offsets, cuts);
  return both;
}

}  // namespace

Tensor activation_operand(const Context& c, const Tensor& x_MK, const Tensor& scaled_MK) {
  return operand(c, c.types().activation_scaling, x_MK, scaled_MK);
}

Tensor gradient_operand(const Context& c, const Tensor& dy_MN, const Tensor& scaled_MN) {
  return operand(c, c.types().gradient_scaling, dy_MN, scaled_MN);
}

void norm_operand(const Context& c, const RmsNorm& norm, const Tensor& x_MA, const Slot& weight, const Tensor& y_MD,
                  const Tensor& rstd_M) {
  if (has_scales(y_MD.dtype))
    rms_norm_forward(*c.stream, norm, x_MA, c.weight(weight), {}, y_MD, c.types().activation_scaling, rstd_M);
  else
    rms_norm_forward(*c.stream, norm, x_MA, c.weight(weight), y_MD, rstd_M);
}

void swiglu_operand(const Context& c, const Tensor& gate_up_R2F, const Tensor& h_RF, std::int64_t rows) {
  if (has_scales(h_RF.dtype))
    swiglu_forward(*c.stream, gate_up_R2F, h_RF, c.types().activation_scaling, rows);
  else
    swiglu_forward(*c.stream, gate_up_R2F, h_RF, rows);
}

void swiglu_gradient_operand(const Context& c, const Tensor& dh_RF, const Tensor& gate_up_R2F,
                             const Tensor& dgate_up_R2F, std::int64_t rows) {
  if (has_scales(dgate_up_R2F.dtype))
    swiglu_backward(*c.stream, dh_RF, gate_up_R2F, dgate_up_R2F, c.types().gradient_scaling, rows);
  else
    swiglu_backward(*c.stream, dh_RF, gate_up_R2F, dgate_up_R2F, rows);
}

void combine_gradient_operand(const Context& c, const Tensor& dy_MD, const Tensor& rows_RD, const Tensor& weights_MK,
                              const Tensor& row_of_MK, const Tensor& drows_RD, const Tensor& dweights_MK) {
  if (has_scales(drows_RD.dtype))
    combine_backward(*c.stream, dy_MD, rows_RD, weights_MK, row_of_MK, drows_RD, c.types().gradient_scaling,
                     dweights_MK);
  else
    combine_backward(*c.stream, dy_MD, rows_RD, weights_MK, row_of_MK, drows_RD, dweights_MK);
}

void restore_gate_up(const Context& c, const Tensor& kept_R2F, const Tensor& gate_up_R2F, std::int64_t rows) {
  if (kept_R2F) dequantize(*c.stream, kept_R2F.rows(0, rows), gate_up_R2F.rows(0, rows));
}

void restore_swiglu(const Context& c, const Tensor& kept_R2F, const Tensor& gate_up_R2F, const Tensor& h_RF,
                    std::int64_t rows) {
  if (!kept_R2F) return;
  restore_gate_up(c, kept_R2F, gate_up_R2F, rows);
  swiglu_operand(c, gate_up_R2F, h_RF, rows);
}

void weight_gradient(const Context& c, const Tensor& dy_MN, const Tensor& x_MK, const Slot& w) {
  if (!has_scales(dy_MN.dtype)) {
    linear_backward_weight(*c.stream, dy_MN, x_MK, c.gradient(w), c.weight_cuts);
    return;
  }
  const ColumnMemory::Pair both = regrouped(c, dy_MN, x_MK, {}, c.weight_cuts);
  linear_backward_weight(*c.stream, both.dy, both.x, c.gradient(w), c.weight_cuts);
}

void grouped_weight_gradient(const Context& c, const Tensor& dy_RN, const Tensor& x_RK,
                             std::span<const std::int32_t> offsets, const Slot& w, const std::int32_t* row_token) {
  Cuts cuts = c.weight_cuts;
  cuts.row_token = row_token;
  if (!has_scales(dy_RN.dtype)) {
    grouped_linear_backward_weight(*c.stream, dy_RN, x_RK, offsets, c.gradient(w), cuts);
    return;
  }
  const ColumnMemory::Pair both = regrouped(c, dy_RN, x_RK, offsets, cuts);
  grouped_linear_backward_weight(*c.stream, both.dy, both.x, offsets, c.gradient(w), cuts);
}

void ColumnMemory::Largest::add(std::int64_t rows, std::int64_t columns, std::int64_t runs) {
  bytes = std::max(bytes, rows * columns);
  scales = std::max(scales, (rows / ScaledFormat::block + runs) * columns);
}

ColumnMemory::ColumnMemory(const Largest& largest, Arena& arena)
    : elements_(arena.allocate({largest.bytes}, DType::u8, "operands of weight gradients")),
      scales_(arena.allocate({largest.scales}, DType::f32, "scales of operands of weight gradients")) {}

ColumnMemory::Pair ColumnMemory::pair(std::int64_t rows, std::int64_t dy_columns, std::int64_t x_columns) const {
  const std::int64_t both = dy_columns + x_columns, groups = scales_.num_elements() / both;
  FOURMI_CHECK(rows * both <= elements_.num_elements(), "weight gradient of {} rows, {} and {} columns", rows,
               dy_columns, x_columns);
  const auto part = [&](std::int64_t first, std::int64_t columns) -> ColumnScaled {
    return {elements_.rows(rows * first, rows * (first + columns)).view({rows, columns}),
            scales_.rows(groups * first, groups * (first + columns)).view({groups, columns})};
  };
  return {part(0, dy_columns), part(dy_columns, x_columns)};
}

}  // namespace fourmi
