// Products of e4m3 elements: which inputs go together, and where each group's scales are.
#include "kernels/cpu/linear_scaled.h"

#include "kernels/cpu/row_groups.h"
#include "kernels/runtime/working_memory.h"

namespace fourmi::linear {
namespace {

using Layout = ScaledSide::Layout;

void refuse_unless(bool allowed, const ScaledInputs& in) {
  const auto name = [](const Tensor& t, const ColumnScaled* c) {
    return c ? fmt::format("columns of {}", c->group_rows) : std::string(name_of(t.dtype));
  };
  FOURMI_CHECK(allowed, "{}: inputs of {} and {}", in.name, name(in.first, in.first_columns),
               name(in.second, in.second_columns));
}

void check_columns(const ScaledInputs& in, const ColumnScaled& columns, std::int64_t num_groups) {
  const Tensor &elements = columns.elements_MK, &scales = columns.scales_GK;
  FOURMI_CHECK(elements.dtype == DType::u8 && scales.dtype == DType::f32 && scales.device == Device::cpu,
               "{}: columns of {} with scales of {}", in.name, name_of(elements.dtype), name_of(scales.dtype));
  FOURMI_CHECK(
      scales.shape.rank == 2 && scales.dim(0) >= num_groups && scales.dim(1) == elements.dim(elements.shape.rank - 1),
      "{}: scales {} for {} groups of elements {}", in.name, to_string(scales.shape), num_groups,
      to_string(elements.shape));
}

/// The dtypes of y = x w^T and dx = dy w; weights that are columns are the only ones with scales beside them.
void set_rows(ScaledProblem& p, const ScaledInputs& in) {
  const bool mx = in.first.dtype == DType::mxe4m3_rows;
  p.rows = mx ? Layout::mx_rows : Layout::rows;
  p.group = mx ? ScaledFormat::mx_block : ScaledFormat::block;
  refuse_unless((mx || in.first.dtype == DType::e4m3_rows) && !in.first_columns, in);
  if (!mx) {
    refuse_unless(in.second.dtype == DType::e4m3_panels, in);
    p.other = p.call.kind == Kind::forward ? Layout::panels : Layout::panels_across;
  } else if (p.call.kind == Kind::forward) {
    refuse_unless(in.second.dtype == DType::mxe4m3_rows, in);
    p.other = Layout::mx_rows;
  } else {
    refuse_unless(in.second_columns && in.second_columns->group_rows == p.group, in);
    p.other = Layout::columns;
    p.other_scales = in.second_columns->scales_GK.as<float>();
    check_columns(in, *in.second_columns, p.call.num_groups() * ScaledFormat::num_blocks(p.call.num_out, p.group));
  }
  const std::int64_t summed = p.call.kind == Kind::forward ? p.call.num_in : p.call.num_out;
  FOURMI_CHECK(p.call.leaves == 1 || summed / p.call.leaves % p.group == 0, "{}: {} leaves of {} cut a group of {}",
               in.name, p.call.leaves, summed, p.group);
}

/// dw += dy^T x. The first groups of experts are written down once for all tasks, in the caller's working memory.
void set_columns(ScaledProblem& p, const ScaledInputs& in) {
  refuse_unless(in.first_columns && in.second_columns, in);
  const ColumnScaled &dy = *in.first_columns, &x = *in.second_columns;
  refuse_unless(dy.group_rows == x.group_rows &&
                    (dy.group_rows == ScaledFormat::block || dy.group_rows == ScaledFormat::mx_block),
                in);
  p.rows = p.other = Layout::columns;
  p.rows_scales = dy.scales_GK.as<float>();
  p.other_scales = x.scales_GK.as<float>();
  p.group = dy.group_rows;
  auto* first = WorkingMemory::mine().get<std::int64_t>(WorkingUse::experts, p.call.num_groups());
  std::int64_t num_groups = 0, expert = 0;
  RowGroups{p.call.offsets, p.call.num_rows, p.call.cuts, p.group}.for_each_run([&](const GroupRun& run) {
    while (expert <= run.expert) first[expert++] = run.first_group;
    num_groups = run.first_group + run.num_groups;
  });
  while (expert < p.call.num_groups()) first[expert++] = num_groups;
  p.first_group = first;
  check_columns(in, dy, num_groups);
  check_columns(in, x, num_groups);
}

}  // namespace

void run_scaled(const Stream& stream, const Problem& problem, const ScaledInputs& in) {
  ScaledProblem p{.call = problem, .sum = in.sum};
  if (problem.kind == Kind::backward_weight)
    set_columns(p, in);
  else
    set_rows(p, in);
  if (in.sum.accumulator == Float8Sum::Accumulator::hopper) {
    FOURMI_CHECK(p.promotes() && in.sum.promotion >= 0 && in.sum.promotion % p.group == 0,
                 "{}: Hopper's accumulator promoted every {}, groups of {}", in.name, in.sum.promotion, p.group);
    return run_scaled_portable(stream, p);
  }
  FOURMI_CHECK(in.sum.promotion == ScaledFormat::block, "{}: f32 chains promoted every {}", in.name, in.sum.promotion);
  switch (stream.isa()) {
    case Isa::portable:
      return run_scaled_portable(stream, p);
    case Isa::avx2:
      return run_scaled_avx2(stream, p);
    case Isa::avx512:
      return run_scaled_avx512(stream, p);
  }
}

}  // namespace fourmi::linear
