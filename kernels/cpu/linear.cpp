// Linear maps: the door. Checks shapes, dtypes and offsets, then hands the problem to the stream's instruction set.
#include "kernels/ops/linear.h"

#include "kernels/cpu/linear_scaled.h"
#include "kernels/numerics/power_of_two.h"
#include "kernels/ops/door.h"

namespace fourmi {
namespace {

using linear::Kind;
using linear::Problem;
using linear::ScaledInputs;

/// The tensors of a call under the names of its shapes: rows x inner, weights out x in (of num_groups groups).
struct Call {
  const char* name;
  Kind kind;
  const Tensor& first;   ///< x_MK or dy_MN
  const Tensor& second;  ///< w_NK, or x_MK for backward_weight
  const Tensor& out;
  bool grouped;
  std::span<const std::int32_t> offsets;
  const Float8Sum& fp8_sum;
  const ColumnScaled* first_columns = nullptr;  ///< what `first` is the elements of; null: a tensor on its own
  const ColumnScaled* second_columns = nullptr;

  bool is_scaled() const {
    return has_scales(first.dtype) || has_scales(second.dtype) || first_columns != nullptr || second_columns != nullptr;
  }
};

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

void check_dtypes(const Call& call) {
  const bool scaled = call.is_scaled();
  const DType in = scaled ? DType::bf16 : call.first.dtype, out = call.out.dtype;
  FOURMI_CHECK(scaled || call.second.dtype == in, "{}: inputs of {} and {}", call.name, name_of(in),
               name_of(call.second.dtype));
  bool allowed = in == DType::f64 ? out == DType::f64 : out == DType::f32;
  if (in == DType::bf16 && call.kind != Kind::backward_weight) allowed = allowed || out == DType::bf16;
  if (in != DType::f64 && call.kind == Kind::backward_weight) allowed = allowed || out == DType::fx128;
  FOURMI_CHECK(in == DType::f64 || in == DType::f32 || in == DType::bf16, "{}: inputs of {}", call.name, name_of(in));
  FOURMI_CHECK(allowed, "{}: {} inputs into {}", call.name, name_of(call.first.dtype), name_of(out));
  for (const Tensor* t : {&call.first, &call.second, &call.out})
    FOURMI_CHECK(t->device == Device::cpu, "{}: a tensor on another device", call.name);
}

/// Checks shapes and fills what the shapes say. Legend in kernels/ops/linear.h.
Problem make_problem(const Call& call) {
  const bool weight = call.kind == Kind::backward_weight;
  const Tensor& weights = weight ? call.out : call.second;
  const Tensor& x = call.kind == Kind::forward ? call.first : weight ? call.second : call.out;
  const Tensor& y = call.kind == Kind::forward ? call.out : call.first;
  const int lead = call.grouped ? 1 : 0;
  FOURMI_CHECK(x.shape.rank == 2 && y.shape.rank == 2 && weights.shape.rank == 2 + lead, "{}: ranks {}, {}, {}",
               call.name, x.shape.rank, y.shape.rank, weights.shape.rank);
  Problem p;
  p.kind = call.kind;
  p.num_out = weights.dim(lead);
  p.num_in = weights.dim(lead + 1);
  p.num_rows = x.dim(0);
  FOURMI_CHECK(x.dim(0) == y.dim(0) && x.dim(1) == p.num_in && y.dim(1) == p.num_out,
               "{}: x {}, y {}, weights {} do not fit", call.name, to_string(x.shape), to_string(y.shape),
               to_string(weights.shape));
  check_dtypes(call);
  if (call.grouped) check_offsets(call, p.num_rows, weights.dim(0));
  p.offsets = call.offsets;
  p.rows = call.first.data;
  p.other = call.second.data;
  p.out.data = static_cast<std::byte*>(call.out.data);
  p.out.dtype = call.out.dtype;
  return p;
}

template <class T>
void run_as(const Stream& stream, const Problem& problem) {
  switch (stream.isa()) {
    case Isa::portable:
      return linear::run_portable<T>(stream, problem);
    case Isa::avx2:
      return linear::run_avx2<T>(stream, problem);
    case Isa::avx512:
      if constexpr (std::is_same_v<T, double>)
        return linear::run_avx2<T>(stream, problem);  // f64 is for tests: no kernel of its own
      else
        return linear::run_avx512<T>(stream, problem);
  }
}

void run(const Stream& stream, const Problem& problem, const Call& call) {
  if (problem.num_groups() == 0) return;
  if (call.is_scaled())
    return linear::run_scaled(
        stream, problem, {call.name, call.first, call.second, call.first_columns, call.second_columns, call.fp8_sum});
  FOURMI_CHECK(call.fp8_sum.accumulator == Float8Sum::Accumulator::f32, "{}: Hopper's accumulator for inputs of {}",
               call.name, name_of(call.first.dtype));
  const DType input = call.first.dtype;
  if (input == DType::f64) return run_as<double>(stream, problem);
  if (input == DType::f32) return run_as<float>(stream, problem);
  return run_as<bfloat16>(stream, problem);
}

void run_with_residual(const Stream& stream, const Call& call, const Tensor& residual, std::int64_t leaves) {
  Problem problem = make_problem(call);
  const std::int64_t summed = call.kind == Kind::forward ? problem.num_in : problem.num_out;
  FOURMI_CHECK(is_power_of_two(leaves) && leaves <= max_leaves && summed % leaves == 0, "{}: {} leaves of {}",
               call.name, leaves, summed);
  problem.leaves = leaves;
  if (residual) {
    FOURMI_CHECK(residual.shape == call.out.shape && residual.dtype == call.out.dtype, "{}: residual {} {} for {} {}",
                 call.name, name_of(residual.dtype), to_string(residual.shape), name_of(call.out.dtype),
                 to_string(call.out.shape));
    problem.out.residual = static_cast<const std::byte*>(residual.data);
  }
  run(stream, problem, call);
}

void run_backward_weight(const Stream& stream, const Call& call, const Cuts& cuts) {
  Problem problem = make_problem(call);
  FOURMI_CHECK(cuts.rows >= 0, "{}: cuts of {} rows", call.name, cuts.rows);
  problem.cuts = cuts;
  if (call.out.dtype == DType::fx128)
    problem.out.refused = cuts.refused;
  else
    problem.out.residual = problem.out.data;
  run(stream, problem, call);
}

}  // namespace

void linear_forward(const Stream& stream, const Tensor& x_MK, const Tensor& w_NK, const Tensor& y_MN,
                    const Tensor& residual_MN, std::int64_t leaves, const Float8Sum& fp8_sum) {
  FOURMI_DOOR(linear_forward, stream, x_MK, w_NK, y_MN, residual_MN, leaves, fp8_sum);
  const Span span(stream.timeline(), Work::projections, "linear_forward");
  run_with_residual(stream, {"linear_forward", Kind::forward, x_MK, w_NK, y_MN, false, {}, fp8_sum}, residual_MN,
                    leaves);
}

void linear_backward_input(const Stream& stream, const Tensor& dy_MN, const Tensor& w_NK, const Tensor& dx_MK,
                           const Tensor& residual_MK, std::int64_t leaves, const Float8Sum& fp8_sum) {
  FOURMI_DOOR(linear_backward_input, stream, dy_MN, w_NK, dx_MK, residual_MK, leaves, fp8_sum);
  const Span span(stream.timeline(), Work::projections, "linear_backward_input");
  run_with_residual(stream, {"linear_backward_input", Kind::backward_input, dy_MN, w_NK, dx_MK, false, {}, fp8_sum},
                    residual_MK, leaves);
}

void linear_backward_weight(const Stream& stream, const Tensor& dy_MN, const Tensor& x_MK, const Tensor& dw_NK,
                            const Cuts& cuts, const Float8Sum& fp8_sum) {
  FOURMI_DOOR(linear_backward_weight, stream, dy_MN, x_MK, dw_NK, cuts, fp8_sum);
  const Span span(stream.timeline(), Work::projections, "linear_backward_weight");
  run_backward_weight(stream, {"linear_backward_weight", Kind::backward_weight, dy_MN, x_MK, dw_NK, false, {}, fp8_sum},
                      cuts);
}

void linear_backward_input(const Stream& stream, const Tensor& dy_MN, const ColumnScaled& w_NK, const Tensor& dx_MK,
                           const Tensor& residual_MK, std::int64_t leaves, const Float8Sum& fp8_sum) {
  FOURMI_DOOR(linear_backward_input_columns, stream, dy_MN, w_NK, dx_MK, residual_MK, leaves, fp8_sum);
  const Span span(stream.timeline(), Work::projections, "linear_backward_input");
  run_with_residual(stream,
                    {"linear_backward_input",
                     Kind::backward_input,
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

void linear_backward_weight(const Stream& stream, const ColumnScaled& dy_MN, const ColumnScaled& x_MK,
                            const Tensor& dw_NK, const Cuts& cuts, const Float8Sum& fp8_sum) {
  FOURMI_DOOR(linear_backward_weight_columns, stream, dy_MN, x_MK, dw_NK, cuts, fp8_sum);
  const Span span(stream.timeline(), Work::projections, "linear_backward_weight");
  run_backward_weight(stream,
                      {"linear_backward_weight",
                       Kind::backward_weight,
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
  FOURMI_DOOR(grouped_linear_forward, stream, x_RK, w_ENK, offsets, y_RN, leaves, fp8_sum);
  const Span span(stream.timeline(), Work::experts, "grouped_linear_forward");
  run_with_residual(stream, {"grouped_linear_forward", Kind::forward, x_RK, w_ENK, y_RN, true, offsets, fp8_sum}, {},
                    leaves);
}

void grouped_linear_backward_input(const Stream& stream, const Tensor& dy_RN, const Tensor& w_ENK,
                                   std::span<const std::int32_t> offsets, const Tensor& dx_RK, std::int64_t leaves,
                                   const Float8Sum& fp8_sum) {
  FOURMI_DOOR(grouped_linear_backward_input, stream, dy_RN, w_ENK, offsets, dx_RK, leaves, fp8_sum);
  const Span span(stream.timeline(), Work::experts, "grouped_linear_backward_input");
  run_with_residual(
      stream, {"grouped_linear_backward_input", Kind::backward_input, dy_RN, w_ENK, dx_RK, true, offsets, fp8_sum}, {},
      leaves);
}

void grouped_linear_backward_weight(const Stream& stream, const Tensor& dy_RN, const Tensor& x_RK,
                                    std::span<const std::int32_t> offsets, const Tensor& dw_ENK, const Cuts& cuts,
                                    const Float8Sum& fp8_sum) {
  FOURMI_DOOR(grouped_linear_backward_weight, stream, dy_RN, x_RK, offsets, dw_ENK, cuts, fp8_sum);
  const Span span(stream.timeline(), Work::experts, "grouped_linear_backward_weight");
  run_backward_weight(
      stream, {"grouped_linear_backward_weight", Kind::backward_weight, dy_RN, x_RK, dw_ENK, true, offsets, fp8_sum},
      cuts);
}

void grouped_linear_backward_input(const Stream& stream, const Tensor& dy_RN, const ColumnScaled& w_ENK,
                                   std::span<const std::int32_t> offsets, const Tensor& dx_RK, std::int64_t leaves,
                                   const Float8Sum& fp8_sum) {
  FOURMI_DOOR(grouped_linear_backward_input_columns, stream, dy_RN, w_ENK, offsets, dx_RK, leaves, fp8_sum);
  const Span span(stream.timeline(), Work::experts, "grouped_linear_backward_input");
  run_with_residual(stream,
                    {"grouped_linear_backward_input", Kind::backward_input, dy_RN, w_ENK.elements_MK, dx_RK, true,
                     offsets, fp8_sum, nullptr, &w_ENK},
                    {}, leaves);
}

void grouped_linear_backward_weight(const Stream& stream, const ColumnScaled& dy_RN, const ColumnScaled& x_RK,
                                    std::span<const std::int32_t> offsets, const Tensor& dw_ENK, const Cuts& cuts,
                                    const Float8Sum& fp8_sum) {
  FOURMI_DOOR(grouped_linear_backward_weight_columns, stream, dy_RN, x_RK, offsets, dw_ENK, cuts, fp8_sum);
  const Span span(stream.timeline(), Work::experts, "grouped_linear_backward_weight");
  run_backward_weight(stream,
                      {"grouped_linear_backward_weight", Kind::backward_weight, dy_RN.elements_MK, x_RK.elements_MK,
                       dw_ENK, true, offsets, fp8_sum, &dy_RN, &x_RK},
                      cuts);
}

}  // namespace fourmi
