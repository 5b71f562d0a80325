// Linear maps on a GPU: the doors. They check what the CPU's doors check, name the inputs, and hand the problem to the
// family of kernels that linear_choice.h picks.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/library/product.h"
#include "kernels/cuda/linear_problem.h"
#include "kernels/cuda/operations.h"
#include "kernels/ops/linear.h"

namespace fourmi::cuda {
namespace {

using linear::Input;
using linear::Map;
using linear::Problem;

/// The arguments of a call. `first_columns`, `second_columns`: what first and second are the elements of, or null.
struct Call {
  const char* name;
  Map map;
  const Tensor& first;   ///< x_MK or dy_MN
  const Tensor& second;  ///< w_NK, or x_MK for a gradient of weights
  const Tensor& out;
  bool grouped;
  std::span<const std::int32_t> offsets;
  const Float8Sum& fp8_sum;
  const ColumnScaled* first_columns = nullptr;
  const ColumnScaled* second_columns = nullptr;

  bool is_scaled() const {
    return has_scales(first.dtype) || has_scales(second.dtype) || first_columns || second_columns;
  }
  std::string inputs() const {
    const auto one = [](const Tensor& t, const ColumnScaled* c) {
      return c ? fmt::format("columns of {}", c->group_rows) : std::string(name_of(t.dtype));
    };
    return fmt::format("inputs of {} and {}", one(first, first_columns), one(second, second_columns));
  }
};

Input scaled_input(const Call& call) {
  if (call.map == Map::backward_weight) {
    const ColumnScaled *dy = call.first_columns, *x = call.second_columns;
    FOURMI_CHECK(dy && x && dy->group_rows == x->group_rows &&
                     (dy->group_rows == ScaledFormat::block || dy->group_rows == ScaledFormat::mx_block),
                 "{}: {}", call.name, call.inputs());
    return dy->group_rows == ScaledFormat::block ? Input::e4m3 : Input::mxe4m3;
  }
  const bool mx = call.first.dtype == DType::mxe4m3_rows;
  bool fit = (mx || call.first.dtype == DType::e4m3_rows) && !call.first_columns;
  if (!mx)
    fit = fit && !call.second_columns && call.second.dtype == DType::e4m3_panels;
  else if (call.map == Map::forward)
    fit = fit && !call.second_columns && call.second.dtype == DType::mxe4m3_rows;
  else
    fit = fit && call.second_columns && call.second_columns->group_rows == ScaledFormat::mx_block;
  FOURMI_CHECK(fit, "{}: {}", call.name, call.inputs());
  return mx ? Input::mxe4m3 : Input::e4m3;
}

Input input_of(const Call& call) {
  FOURMI_CHECK(call.fp8_sum.accumulator == Float8Sum::Accumulator::f32,
               "{}: the imitation of Hopper's accumulator on a GPU", call.name);
  if (call.is_scaled()) {
    FOURMI_CHECK(call.fp8_sum.promotion == ScaledFormat::block, "{}: f32 chains promoted every {}", call.name,
                 call.fp8_sum.promotion);
    return scaled_input(call);
  }
  FOURMI_CHECK(call.first.dtype == call.second.dtype, "{}: {}", call.name, call.inputs());
  switch (call.first.dtype) {
    case DType::f64:
      return Input::f64;
    case DType::f32:
      return Input::f32;
    default:
      FOURMI_CHECK(call.first.dtype == DType::bf16, "{}: {}", call.name, call.inputs());
      return Input::bf16;
  }
}

void check_out(const Call& call, Input input) {
  const DType out = call.out.dtype;
  FOURMI_CHECK(out != DType::fx128, "{}: gradients in fx128 are mode layout's, and not for a GPU", call.name);
  const bool may_be_bf16 = input != Input::f64 && input != Input::f32 && call.map != Map::backward_weight;
  FOURMI_CHECK(input == Input::f64 ? out == DType::f64 : out == DType::f32 || (may_be_bf16 && out == DType::bf16),
               "{}: {} into {}", call.name, call.inputs(), name_of(out));
}

void check_offsets(const Call& call, std::int64_t num_rows, std::int64_t num_groups) {
  const auto& offsets = call.offsets;
  FOURMI_CHECK(static_cast<std::int64_t>(offsets.size()) == num_groups + 1, "{}: {} offsets for {} experts", call.name,
               offsets.size(), num_groups);
  FOURMI_CHECK(offsets.front() >= 0 && offsets.back() <= num_rows, "{}: offsets from {} to {}, {} rows", call.name,
               offsets.front(), offsets.back(), num_rows);
  for (std::size_t e = 1; e < offsets.size(); ++e)
    FOURMI_CHECK(offsets[e - 1] <= offsets[e], "{}: offsets fall from {} to {} at expert {}", call.name, offsets[e - 1],
                 offsets[e], e - 1);
}

/// Groups of scales that columns must have.
std::int64_t num_column_groups(const Problem& p, std::int64_t group_rows) {
  if (p.map != Map::backward_weight) return p.num_groups * ScaledFormat::num_blocks(p.num_out, group_rows);
  if (!p.grouped) return ScaledFormat::num_blocks(p.num_rows, group_rows);
  std::int64_t n = 0;
  for (std::size_t e = 1; e < p.offsets.size(); ++e)
    n += ScaledFormat::num_blocks(p.offsets[e] - p.offsets[e - 1], group_rows);
  return n;
}

Tensor scales_of(const Problem& p, const ColumnScaled* columns) {
  if (!columns) return {};
  const Tensor &elements = columns->elements_MK, &scales = columns->scales_GK;
  const std::int64_t num_groups = num_column_groups(p, columns->group_rows);
  FOURMI_CHECK(elements.dtype == DType::u8 && scales.dtype == DType::f32 && scales.device == Device::cuda,
               "{}: columns of {} with scales of {}", p.name, name_of(elements.dtype), name_of(scales.dtype));
  FOURMI_CHECK(
      scales.shape.rank == 2 && scales.dim(0) >= num_groups && scales.dim(1) == elements.dim(elements.shape.rank - 1),
      "{}: scales {} for {} groups of elements {}", p.name, to_string(scales.shape), num_groups,
      to_string(elements.shape));
  return scales;
}

Problem make_problem(const Call& call) {
  const bool weight = call.map == Map::backward_weight;
  const Tensor& weights = weight ? call.out : call.second;
  const Tensor& x = call.map == Map::forward ? call.first : weight ? call.second : call.out;
  const Tensor& y = call.map == Map::forward ? call.out : call.first;
  const int lead = call.grouped ? 1 : 0;
  FOURMI_CHECK(x.shape.rank == 2 && y.shape.rank == 2 && weights.shape.rank == 2 + lead, "{}: ranks {}, {}, {}",
               call.name, x.shape.rank, y.shape.rank, weights.shape.rank);
  Problem p;
  p.name = call.name, p.map = call.map;
  p.num_out = weights.dim(lead), p.num_in = weights.dim(lead + 1), p.num_rows = x.dim(0);
  FOURMI_CHECK(x.dim(0) == y.dim(0) && x.dim(1) == p.num_in && y.dim(1) == p.num_out,
               "{}: x {}, y {}, weights {} do not fit", call.name, to_string(x.shape), to_string(y.shape),
               to_string(weights.shape));
  p.input = input_of(call);
  check_out(call, p.input);
  for (const Tensor* t : {&call.first, &call.second, &call.out})
    FOURMI_CHECK(t->device == Device::cuda, "{}: a tensor of the host given to the device", call.name);
  p.grouped = call.grouped;
  if (call.grouped) {
    p.num_groups = weights.dim(0);
    check_offsets(call, p.num_rows, p.num_groups);
    p.offsets = call.offsets;
  }
  p.first = call.first, p.second = call.second, p.out = call.out;
  p.first_scales_GK = scales_of(p, call.first_columns);
  p.second_scales_GK = scales_of(p, call.second_columns);
  return p;
}

void run(const Stream& stream, const Problem& p) {
  if (p.num_groups == 0 || p.num_used_rows() == 0 || p.out.num_elements() == 0) return;
  if (library::takes(p.descriptor()) && library::multiply(on(stream), p)) return;
  switch (linear::choose(p.descriptor(), on(stream).card().capability)) {
    case linear::Family::plain:
      return linear::run_plain(on(stream), p);
    case linear::Family::plain_scaled:
      return linear::run_plain_scaled(on(stream), p);
    case linear::Family::hopper_product:
      return linear::run_hopper_product(on(stream), p);
    case linear::Family::hopper_gradient:
      return linear::run_hopper_gradient(on(stream), p);
    case linear::Family::hopper_bf16_product:
      return linear::run_hopper_bf16_product(on(stream), p);
    case linear::Family::hopper_bf16_gradient:
      return linear::run_hopper_bf16_gradient(on(stream), p);
  }
}

void run_with_residual(const Stream& stream, const Call& call, const Tensor& residual, std::int64_t leaves) {
  FOURMI_CHECK(leaves == 1, "{}: {} leaves are mode layout's, and not for a GPU", call.name, leaves);
  Problem p = make_problem(call);
  FOURMI_CHECK(!residual || (residual.shape == call.out.shape && residual.dtype == call.out.dtype &&
                             residual.device == Device::cuda),
               "{}: residual {} {} for {} {}", call.name, name_of(residual.dtype), to_string(residual.shape),
               name_of(call.out.dtype), to_string(call.out.shape));
  p.residual = residual;
  run(stream, p);
}

void run_backward_weight(const Stream& stream, const Call& call, const Cuts& cuts) {
  FOURMI_CHECK(cuts.rows == 0, "{}: cuts of {} rows are mode layout's, and not for a GPU", call.name, cuts.rows);
  Problem p = make_problem(call);
  p.residual = p.out;
  run(stream, p);
}

}  // namespace

void linear_forward(const Stream& stream, const Tensor& x_MK, const Tensor& w_NK, const Tensor& y_MN,
                    const Tensor& residual_MN, std::int64_t leaves, const Float8Sum& fp8_sum) {
  const Span span(stream.timeline(), Work::projections, "linear_forward");
  run_with_residual(stream, {"linear_forward", Map::forward, x_MK, w_NK, y_MN, false, {}, fp8_sum}, residual_MN,
                    leaves);
}

void linear_backward_input(const Stream& stream, const Tensor& dy_MN, const Tensor& w_NK, const Tensor& dx_MK,
                           const Tensor& residual_MK, std::int64_t leaves, const Float8Sum& fp8_sum) {
  const Span span(stream.timeline(), Work::projections, "linear_backward_input");
  run_with_residual(stream, {"linear_backward_input", Map::backward_input, dy_MN, w_NK, dx_MK, false, {}, fp8_sum},
                    residual_MK, leaves);
}

void linear_backward_input(const Stream& stream, const Tensor& dy_MN, const ColumnScaled& w_NK, const Tensor& dx_MK,
                           const Tensor& residual_MK, std::int64_t leaves, const Float8Sum& fp8_sum) {
  const Span span(stream.timeline(), Work::projections, "linear_backward_input");
  run_with_residual(stream,
                    {"linear_backward_input",
                     Map::backward_input,
                     dy_MN,
                     w_NK.elements_MK,
                     dx_MK,
                     false,
                     {},
                     fp8_sum,
                     nullptr,
                     &w_NK},
                    residual_MK, leaves);
}

void linear_backward_weight(const Stream& stream, const Tensor& dy_MN, const Tensor& x_MK, const Tensor& dw_NK,
                            const Cuts& cuts, const Float8Sum& fp8_sum) {
  const Span span(stream.timeline(), Work::projections, "linear_backward_weight");
  run_backward_weight(stream, {"linear_backward_weight", Map::backward_weight, dy_MN, x_MK, dw_NK, false, {}, fp8_sum},
                      cuts);
}

void linear_backward_weight(const Stream& stream, const ColumnScaled& dy_MN, const ColumnScaled& x_MK,
                            const Tensor& dw_NK, const Cuts& cuts, const Float8Sum& fp8_sum) {
  const Span span(stream.timeline(), Work::projections, "linear_backward_weight");
  run_backward_weight(stream,
                      {"linear_backward_weight",
                       Map::backward_weight,
                       dy_MN.elements_MK,
                       x_MK.elements_MK,
                       dw_NK,
                       false,
                       {},
                       fp8_sum,
                       &dy_MN,
                       &x_MK},
                      cuts);
}

void grouped_linear_forward(const Stream& stream, const Tensor& x_RK, const Tensor& w_ENK,
                            std::span<const std::int32_t> offsets, const Tensor& y_RN, std::int64_t leaves,
                            const Float8Sum& fp8_sum) {
  const Span span(stream.timeline(), Work::experts, "grouped_linear_forward");
  run_with_residual(stream, {"grouped_linear_forward", Map::forward, x_RK, w_ENK, y_RN, true, offsets, fp8_sum}, {},
                    leaves);
}

void grouped_linear_backward_input(const Stream& stream, const Tensor& dy_RN, const Tensor& w_ENK,
                                   std::span<const std::int32_t> offsets, const Tensor& dx_RK, std::int64_t leaves,
                                   const Float8Sum& fp8_sum) {
  const Span span(stream.timeline(), Work::experts, "grouped_linear_backward_input");
  run_with_residual(stream,
                    {"grouped_linear_backward_input", Map::backward_input, dy_RN, w_ENK, dx_RK, true, offsets, fp8_sum},
                    {}, leaves);
}

void grouped_linear_backward_weight(const Stream& stream, const Tensor& dy_RN, const Tensor& x_RK,
                                    std::span<const std::int32_t> offsets, const Tensor& dw_ENK, const Cuts& cuts,
                                    const Float8Sum& fp8_sum) {
  const Span span(stream.timeline(), Work::experts, "grouped_linear_backward_weight");
  run_backward_weight(
      stream, {"grouped_linear_backward_weight", Map::backward_weight, dy_RN, x_RK, dw_ENK, true, offsets, fp8_sum},
      cuts);
}

void grouped_linear_backward_input(const Stream& stream, const Tensor& dy_RN, const ColumnScaled& w_ENK,
                                   std::span<const std::int32_t> offsets, const Tensor& dx_RK, std::int64_t leaves,
                                   const Float8Sum& fp8_sum) {
  const Span span(stream.timeline(), Work::experts, "grouped_linear_backward_input");
  run_with_residual(stream,
                    {"grouped_linear_backward_input", Map::backward_input, dy_RN, w_ENK.elements_MK, dx_RK, true,
                     offsets, fp8_sum, nullptr, &w_ENK},
                    {}, leaves);
}

void grouped_linear_backward_weight(const Stream& stream, const ColumnScaled& dy_RN, const ColumnScaled& x_RK,
                                    std::span<const std::int32_t> offsets, const Tensor& dw_ENK, const Cuts& cuts,
                                    const Float8Sum& fp8_sum) {
  const Span span(stream.timeline(), Work::experts, "grouped_linear_backward_weight");
  run_backward_weight(stream,
                      {"grouped_linear_backward_weight", Map::backward_weight, dy_RN.elements_MK, x_RK.elements_MK,
                       dw_ENK, true, offsets, fp8_sum, &dy_RN, &x_RK},
                      cuts);
}

}  // namespace fourmi::cuda
