#include "framework/model/scaled_copies.h"

#include <algorithm>

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
                           Arena& arena)
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
  return Tensor(part<std::uint8_t>(memory_, place(offset).bytes), dtype_, shape, memory_.device);
}

ColumnScaled ScaledCopies::columns(std::int64_t offset, const Shape& shape) const {
  if (!has_columns()) return {};
  const Place& at = place(offset);
  return {Tensor(part<std::uint8_t>(column_elements_, at.elements), DType::u8, shape, memory_.device),
          Tensor(part<float>(column_scales_, at.scales), DType::f32, {row_groups(shape), shape[shape.rank - 1]},
                 memory_.device),
          ScaledFormat::mx_block};
}

Tensor ScaledCopies::memory(const Region& r) const {
  std::int64_t begin = 0, end = 0;
  for (auto copy = find(r.begin); copy != copies_.end() && copy->offset < r.end; ++copy) {
    if (end == 0) begin = copy->at.bytes;
    end = copy->at.bytes + bytes_of(dtype_, copy->shape);
  }
  return memory_.rows(begin, end);
}

std::int64_t ScaledCopies::first_byte(const Region& r, std::int64_t offset) const {
  return place(offset).bytes - place(r.begin).bytes;
}

void ScaledCopies::derive(const Stream& stream, const Region& r) const {
  if (!has_columns()) return;
  for (auto copy = find(r.begin); copy != copies_.end() && copy->offset < r.end; ++copy)
    regroup_columns(stream, of(copy->offset, copy->shape), columns(copy->offset, copy->shape),
                    ColumnScale::power_of_two);
}

}  // namespace fourmi
