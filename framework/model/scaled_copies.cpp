#include "framework/model/scaled_copies.h"

#include <algorithm>
#include <array>

#include "kernels/ops/quantize.h"

namespace fourmi {

namespace {

/// Groups of rows of all dims but the last.
std::int64_t row_groups(const Shape& shape) {
  return ScaledFormat::num_blocks(shape.num_elements() / shape[shape.rank - 1], ScaledFormat::mx_block);
}

/// Memory is absent where it is only measured.
template <class T>
T* part(const Tensor& memory, std::int64_t at) {
  return memory.data ? static_cast<T*>(memory.data) + at : nullptr;
}

}  // namespace

ScaledCopies::ScaledCopies(const ParameterTable& table, std::span<const Region> regions, bool in_turn, DType dtype,
                           bool one_scale, Arena& arena)
    : dtype_(dtype) {
  const std::vector<const Parameter*> matrices = table.of(ParameterSet::matrices);
  const auto waits = [&](const Region& r) { return in_turn && r.layer >= 0; };
  const auto add = [&](const Region& r, Place at) {
    for (const Parameter* p : matrices) {
      if (!p->is_map || p->offset < r.begin || p->offset >= r.end) continue;
      copies_.push_back({p->offset, p->local, at});
      at.bytes += bytes_of(dtype, p->local);
      at.elements += p->local.num_elements();
      at.scales += row_groups(p->local) * p->local[p->local.rank - 1];
    }
    return at;
  };
  Place end;
  for (const Region& r : regions)
    if (!waits(r)) end = add(r, end);
  Place all = end;
  for (const Region& r : regions) {
    if (!waits(r)) continue;
    const Place of_layer = add(r, end);
    all = {std::max(all.bytes, of_layer.bytes), std::max(all.elements, of_layer.elements),
           std::max(all.scales, of_layer.scales)};
  }
  std::sort(copies_.begin(), copies_.end(), [](const Copy& a, const Copy& b) { return a.offset < b.offset; });
  memory_ = arena.allocate({all.bytes}, DType::u8, "FP8 copies of matrices");
  if (one_scale) amax_1_ = arena.allocate({1}, DType::f32, "largest magnitude of a matrix");
  if (!has_columns()) return;
  column_elements_ = arena.allocate({all.elements}, DType::u8, "FP8 copies of matrices, by columns");
  column_scales_ = arena.allocate({all.scales}, DType::f32, "scales of FP8 copies, by columns");
}

std::vector<ScaledCopies::Copy>::const_iterator ScaledCopies::find(std::int64_t offset) const {
  return std::lower_bound(copies_.begin(), copies_.end(), offset,
                          [](const Copy& c, std::int64_t o) { return c.offset < o; });
}

const ScaledCopies::Place& ScaledCopies::place(std::int64_t offset) const {
  const auto copy = find(offset);
  FOURMI_CHECK(copy != copies_.end() && copy->offset == offset, "no FP8 copy of what begins at {}", offset);
  return copy->at;
}

Tensor ScaledCopies::of(std::int64_t offset, const Shape& shape) const {
  return Tensor(part<std::uint8_t>(memory_, place(offset).bytes), dtype_, shape);
}

ColumnScaled ScaledCopies::columns(std::int64_t offset, const Shape& shape) const {
  if (!has_columns()) return {};
  const Place& at = place(offset);
  return {Tensor(part<std::uint8_t>(column_elements_, at.elements), DType::u8, shape),
          Tensor(part<float>(column_scales_, at.scales), DType::f32, {row_groups(shape), shape[shape.rank - 1]}),
          ScaledFormat::mx_block};
}

void ScaledCopies::quantise(const Stream& stream, const Tensor& weight, const Tensor& q, ScaleKind kind) const {
  if (!amax_1_) return quantize(stream, weight, q, {.kind = kind});
  const std::array<std::int32_t, 2> all{0, static_cast<std::int32_t>(weight.dim(0))};
  largest_magnitudes(stream, weight, all, amax_1_);
  quantize_by(stream, weight, q, {.kind = kind}, all, amax_1_);
}

void ScaledCopies::make(const Stream& stream, ScaleKind kind, const Region& r,
                        const std::function<Tensor(std::int64_t, const Shape&)>& weight) const {
  for (auto copy = find(r.begin); copy != copies_.end() && copy->offset < r.end; ++copy) {
    const Tensor q = of(copy->offset, copy->shape);
    quantise(stream, weight(copy->offset, copy->shape), q, kind);
    if (has_columns()) regroup_columns(stream, q, columns(copy->offset, copy->shape), ColumnScale::power_of_two);
  }
}

}  // namespace fourmi
