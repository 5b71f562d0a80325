#include "framework/model/scaled_copies.h"

#include <algorithm>

#include "kernels/ops/quantize.h"

namespace fourmi {

ScaledCopies::ScaledCopies(const ParameterTable& table, std::span<const Region> regions, bool in_turn, DType dtype,
                           Arena& arena)
    : dtype_(dtype) {
  const std::vector<const Parameter*> matrices = table.of(ParameterSet::matrices);
  const auto waits = [&](const Region& r) { return in_turn && r.layer >= 0; };
  const auto add = [&](const Region& r, std::int64_t at) {
    for (const Parameter* p : matrices) {
      if (!p->is_map || p->offset < r.begin || p->offset >= r.end) continue;
      copies_.push_back({p->offset, p->local, at});
      at += bytes_of(dtype, p->local);
    }
    return at;
  };
  std::int64_t end = 0, all = 0;
  for (const Region& r : regions)
    if (!waits(r)) end = add(r, end);
  all = end;
  for (const Region& r : regions)
    if (waits(r)) all = std::max(all, add(r, end));
  std::sort(copies_.begin(), copies_.end(), [](const Copy& a, const Copy& b) { return a.offset < b.offset; });
  memory_ = arena.allocate({all}, DType::u8, "FP8 copies of matrices");
}

std::vector<ScaledCopies::Copy>::const_iterator ScaledCopies::find(std::int64_t offset) const {
  return std::lower_bound(copies_.begin(), copies_.end(), offset,
                          [](const Copy& c, std::int64_t o) { return c.offset < o; });
}

Tensor ScaledCopies::of(std::int64_t offset, const Shape& shape) const {
  const auto copy = find(offset);
  FOURMI_CHECK(copy != copies_.end() && copy->offset == offset, "no FP8 copy of what begins at {}", offset);
  return Tensor(memory_.data ? memory_.as<std::uint8_t>() + copy->at : nullptr, dtype_, shape);
}

void ScaledCopies::make(const Stream& stream, ScaleKind kind, const Region& r,
                        const std::function<Tensor(std::int64_t, const Shape&)>& weight) const {
  for (auto copy = find(r.begin); copy != copies_.end() && copy->offset < r.end; ++copy)
    quantize(stream, weight(copy->offset, copy->shape), of(copy->offset, copy->shape), {.kind = kind});
}

}  // namespace fourmi
