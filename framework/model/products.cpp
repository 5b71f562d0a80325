#include "framework/model/products.h"

#include <algorithm>
#include <array>

#include "kernels/ops/permute.h"
#include "kernels/ops/quantize.h"
#include "kernels/ops/reduce.h"
#include "kernels/ops/swiglu.h"
#include "kernels/runtime/on_host.h"

namespace fourmi {

namespace {

/// Shows what products of w read. make_exact(begin, end, rows): the same rows without scales.
template <class MakeExact>
void look(const Context& c, const Slot& w, OperandRole role, const Tensor& operand, const MakeExact& make_exact) {
  if (c.after_operand) (*c.after_operand)(w, role, operand);
  if (!c.operand_check || !has_scales(operand.dtype)) return;
  OperandCheck& check = *c.operand_check;
  for (std::int64_t begin = 0; begin < operand.dim(0); begin += OperandCheck::most_rows) {
    const std::int64_t end = std::min(operand.dim(0), begin + OperandCheck::most_rows);
    const Tensor rows = check.exact_rows(end - begin, operand.dim(1));
    make_exact(begin, end, rows);
    check.compare(*c.stream, w, role, rows, operand.rows(begin, end));
  }
  if (check.wants_weight(w)) check.compare_weight(*c.stream, w, c.weight(w), c.matrix(w));
}

/// How the operands of a role get their scales.
struct Rule {
  OperandRole role;
  const Scaling& scaling;
  ScaleOver over;
};
Rule of_activations(const Context& c) {
  return {OperandRole::activation, c.types().activation_scaling, c.types().activation_over};
}
Rule of_gradients(const Context& c) {
  return {OperandRole::gradient, c.types().gradient_scaling, c.types().gradient_over};
}

void quantise(const Context& c, const Rule& rule, const Tensor& x, const Tensor& q) {
  if (rule.over == ScaleOver::group) return quantize(*c.stream, x, q, rule.scaling);
  if (rule.over == ScaleOver::square) return quantize_blocks(*c.stream, x, q, rule.scaling);
  const Tensor& amax_1 = c.late_memory->amax_1();
  const std::array<std::int32_t, 2> all{0, static_cast<std::int32_t>(x.dim(0))};
  largest_magnitudes(*c.stream, x, all, amax_1);
  quantize_by(*c.stream, x, q, rule.scaling, all, amax_1);
}

Tensor operand(const Context& c, const Rule& rule, const Tensor& x, const Tensor& scaled, const Slot& w) {
  if (scaled) quantise(c, rule, x, scaled);
  const Tensor& read = scaled ? scaled : x;
  look(c, w, rule.role, read,
       [&](std::int64_t begin, std::int64_t end, const Tensor& rows) { convert(*c.stream, x.rows(begin, end), rows); });
  return read;
}

/// y from the operation that makes it: write(y) where it has no scales, with_scales(scaling) where each group's follows
/// from the group alone; else late, from what write() left. exact(begin, end, rows): some of its rows without scales.
template <class Write, class WithScales, class MakeExact>
void produce(const Context& c, const Rule& rule, const Tensor& y, const Slot& w, const Write& write,
             const WithScales& with_scales, const MakeExact& exact) {
  if (!has_scales(y.dtype)) {
    write(y);
  } else if (rule.over == ScaleOver::group) {
    with_scales(rule.scaling);
  } else {
    const Tensor late = c.late_memory->of(y.shape);
    write(late);
    quantise(c, rule, late, y);
  }
  look(c, w, rule.role, y, exact);
}

/// Rows [begin, end) of combine_backward's drows.
void exact_combine_gradient(const Context& c, const Tensor& dy_MD, const Tensor& weights_MK, const Tensor& row_of_MK,
                            std::int64_t begin, std::int64_t end, const Tensor& rows) {
  const std::int64_t M = row_of_MK.dim(0), K = row_of_MK.dim(1), D = dy_MD.dim(1);
  const OnHost row_of(*c.stream, row_of_MK), weights(*c.stream, weights_MK);
  for (std::int64_t t = 0; t < M; ++t)
    for (std::int64_t k = 0; k < K; ++k) {
      const std::int64_t row = row_of.tensor().as<std::int32_t>()[t * K + k];
      if (row < begin || row >= end) continue;
      const Tensor to = rows.rows(row - begin, row - begin + 1);
      if (has_scales(dy_MD.dtype))
        dequantize(*c.stream, dy_MD.rows(t, t + 1), to);
      else
        convert(*c.stream, dy_MD.rows(t, t + 1), to);
      const float weight = weights.tensor().as<float>()[t * K + k];
      const OnHost there(*c.stream, to, OnHost::Use::both);
      auto* x = there.tensor().as<bfloat16>();
      for (std::int64_t i = 0; i < D; ++i) x[i] = bfloat16(static_cast<float>(x[i]) * weight);
      there.back();
    }
}

ColumnMemory::Pair regrouped(const Context& c, const Tensor& dy_MN, const Tensor& x_MK, const Slot& w,
                             std::span<const std::int32_t> offsets, const Cuts& cuts) {
  const std::int64_t runs = offsets.empty() ? 1 : std::ssize(offsets) - 1;
  const ColumnMemory::Pair both = c.column_memory->pair(dy_MN.dim(0), runs, dy_MN.dim(1), x_MK.dim(1));
  const auto regroup = [&](OperandRole role, const Tensor& rows, const ColumnScaled& columns) {
    std::int64_t changed = 0;
    regroup_columns(*c.stream, rows, columns, c.types().column_scale, offsets, cuts,
                    c.operand_check ? &changed : nullptr);
    const std::int64_t num_rows = offsets.empty() ? rows.dim(0) : offsets.back() - offsets.front();
    if (c.operand_check) c.operand_check->add_regrouped(w, role, num_rows * rows.dim(1), changed);
  };
  regroup(OperandRole::gradient, dy_MN, both.dy);
  regroup(OperandRole::activation, x_MK, both.x);
  return both;
}

}  // namespace

Tensor activation_operand(const Context& c, const Tensor& x_MK, const Tensor& scaled_MK, const Slot& w) {
  return operand(c, of_activations(c), x_MK, scaled_MK, w);
}

Tensor gradient_operand(const Context& c, const Tensor& dy_MN, const Tensor& scaled_MN, const Slot& w) {
  return operand(c, of_gradients(c), dy_MN, scaled_MN, w);
}

void keep_scaled(const Context& c, const Tensor& x_MK, const Tensor& kept_MK) {
  if (kept_MK) quantise(c, of_activations(c), x_MK, kept_MK);
}

void norm_operand(const Context& c, const RmsNorm& norm, const Tensor& x_MA, const Slot& weight, const Tensor& y_MD,
                  const Tensor& rstd_M, const Slot& w) {
  produce(
      c, of_activations(c), y_MD, w,
      [&](const Tensor& y) { rms_norm_forward(*c.stream, norm, x_MA, c.weight(weight), y, rstd_M); },
      [&](const Scaling& scaling) {
        rms_norm_forward(*c.stream, norm, x_MA, c.weight(weight), {}, y_MD, scaling, rstd_M);
      },
      [&](std::int64_t begin, std::int64_t end, const Tensor& y) {
        rms_norm_forward(*c.stream, norm, x_MA.rows(begin, end), c.weight(weight), y, rstd_M.rows(begin, end));
      });
}

void swiglu_operand(const Context& c, const Tensor& gate_up_R2F, const Tensor& h_RF, std::int64_t rows, const Slot& w) {
  produce(
      c, of_activations(c), h_RF.rows(0, rows), w,
      [&](const Tensor& h) { swiglu_forward(*c.stream, gate_up_R2F, h, rows); },
      [&](const Scaling& scaling) { swiglu_forward(*c.stream, gate_up_R2F, h_RF, scaling, rows); },
      [&](std::int64_t begin, std::int64_t end, const Tensor& h) {
        swiglu_forward(*c.stream, gate_up_R2F.rows(begin, end), h, end - begin);
      });
}

void swiglu_gradient_operand(const Context& c, const Tensor& dh_RF, const Tensor& gate_up_R2F,
                             const Tensor& dgate_up_R2F, std::int64_t rows, const Slot& w) {
  produce(
      c, of_gradients(c), dgate_up_R2F.rows(0, rows), w,
      [&](const Tensor& d) { swiglu_backward(*c.stream, dh_RF, gate_up_R2F, d, rows); },
      [&](const Scaling& scaling) { swiglu_backward(*c.stream, dh_RF, gate_up_R2F, dgate_up_R2F, scaling, rows); },
      [&](std::int64_t begin, std::int64_t end, const Tensor& d) {
        swiglu_backward(*c.stream, dh_RF.rows(begin, end), gate_up_R2F.rows(begin, end), d, end - begin);
      });
}

void combine_gradient_operand(const Context& c, const Tensor& dy_MD, const Tensor& rows_RD, const Tensor& weights_MK,
                              const Tensor& row_of_MK, const Tensor& drows_RD, const Tensor& dweights_MK,
                              std::int64_t rows, const Slot& w) {
  produce(
      c, of_gradients(c), drows_RD.rows(0, rows), w,
      [&](const Tensor& d) { combine_backward(*c.stream, dy_MD, rows_RD, weights_MK, row_of_MK, d, dweights_MK); },
      [&](const Scaling& scaling) {
        combine_backward(*c.stream, dy_MD, rows_RD, weights_MK, row_of_MK, drows_RD, scaling, dweights_MK);
      },
      [&](std::int64_t begin, std::int64_t end, const Tensor& d) {
        exact_combine_gradient(c, dy_MD, weights_MK, row_of_MK, begin, end, d);
      });
}

void restore_gate_up(const Context& c, const Tensor& kept_R2F, const Tensor& gate_up_R2F, std::int64_t rows) {
  if (kept_R2F) dequantize(*c.stream, kept_R2F.rows(0, rows), gate_up_R2F.rows(0, rows));
}

void restore_swiglu(const Context& c, const Tensor& kept_R2F, const Tensor& gate_up_R2F, const Tensor& h_RF,
                    std::int64_t rows, const Slot& w) {
  if (!kept_R2F) return;
  restore_gate_up(c, kept_R2F, gate_up_R2F, rows);
  swiglu_operand(c, gate_up_R2F, h_RF, rows, w);
}

void input_gradient(const Context& c, const Tensor& dy_MN, const Slot& w, const Tensor& dx_MK,
                    const Tensor& residual_MK, std::int64_t leaves) {
  if (const Tensor transposed = c.matrix_transposed(w))
    linear_forward(*c.stream, dy_MN, transposed, dx_MK, residual_MK, leaves);
  else if (const ColumnScaled columns = c.matrix_columns(w); columns.elements_MK)
    linear_backward_input(*c.stream, dy_MN, columns, dx_MK, residual_MK, leaves);
  else
    linear_backward_input(*c.stream, dy_MN, c.matrix(w), dx_MK, residual_MK, leaves);
}

void grouped_input_gradient(const Context& c, const Tensor& dy_RN, const Slot& w, std::span<const std::int32_t> offsets,
                            const Tensor& dx_RK, std::int64_t leaves) {
  if (const Tensor transposed = c.matrix_transposed(w))
    grouped_linear_forward(*c.stream, dy_RN, transposed, offsets, dx_RK, leaves);
  else if (const ColumnScaled columns = c.matrix_columns(w); columns.elements_MK)
    grouped_linear_backward_input(*c.stream, dy_RN, columns, offsets, dx_RK, leaves);
  else
    grouped_linear_backward_input(*c.stream, dy_RN, c.matrix(w), offsets, dx_RK, leaves);
}

void weight_gradient(const Context& c, const Tensor& dy_MN, const Tensor& x_MK, const Slot& w) {
  if (!has_scales(dy_MN.dtype)) {
    linear_backward_weight(*c.stream, dy_MN, x_MK, c.gradient(w), c.weight_cuts);
    return;
  }
  const ColumnMemory::Pair both = regrouped(c, dy_MN, x_MK, w, {}, c.weight_cuts);
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
  const ColumnMemory::Pair both = regrouped(c, dy_RN, x_RK, w, offsets, cuts);
  grouped_linear_backward_weight(*c.stream, both.dy, both.x, offsets, c.gradient(w), cuts);
}

LateMemory::LateMemory(std::int64_t largest_elements, DType dtype, Arena& arena)
    : elements_(arena.allocate({largest_elements}, dtype, "operands before their scale is known")),
      amax_1_(arena.allocate({1}, DType::f32, "largest magnitude of an operand")) {}

void ColumnMemory::Largest::add(std::int64_t rows, std::int64_t columns, std::int64_t runs) {
  const std::int64_t groups = ColumnScaled::most_groups(rows, runs, group_rows);
  const auto bytes = [&](Device device) {
    return ColumnScaled::element_bytes(device, rows, columns, groups, group_rows);
  };
  host_bytes = std::max(host_bytes, bytes(Device::cpu));
  device_bytes = std::max(device_bytes, bytes(Device::cuda));
  scales = std::max(scales, groups * columns);
}

ColumnMemory::ColumnMemory(const Largest& largest, Arena& arena)
    : group_rows_(largest.group_rows),
      elements_(arena.allocate({arena.device() == Device::cpu ? largest.host_bytes : largest.device_bytes}, DType::u8,
                               "operands of weight gradients")),
      scales_(arena.allocate({largest.scales}, DType::f32, "scales of operands of weight gradients")) {}

ColumnMemory::Pair ColumnMemory::pair(std::int64_t rows, std::int64_t runs, std::int64_t dy_columns,
                                      std::int64_t x_columns) const {
  const std::int64_t both = dy_columns + x_columns, room = scales_.num_elements() / both;
  // On the CPU runs may be those of cuts besides, and groups without rows cost nothing. On a GPU they have places.
  const std::int64_t groups =
      elements_.device == Device::cpu ? room : ColumnScaled::most_groups(rows, runs, group_rows_);
  const auto bytes = [&](std::int64_t columns) {
    return ColumnScaled::element_bytes(elements_.device, rows, columns, groups, group_rows_);
  };
  FOURMI_CHECK(bytes(both) <= elements_.num_elements() && groups <= room,
               "weight gradient of {} rows in {} runs, {} and {} columns", rows, runs, dy_columns, x_columns);
  const auto part = [&](std::int64_t first, std::int64_t columns) -> ColumnScaled {
    const Tensor memory = elements_.rows(bytes(first), bytes(first + columns));
    return {Tensor(memory.data, DType::u8, {rows, columns}, memory.device),
            scales_.rows(groups * first, groups * (first + columns)).view({groups, columns}), group_rows_};
  };
  return {part(0, dy_columns), part(dy_columns, x_columns)};
}

}  // namespace fourmi
