#include "framework/model/scaled_copies.h"

#include <algorithm>

#include "kernels/ops/quantize.h"
#include "kernels/ops/transpose_panels.h"

namespace fourmi {

namespace {

constexpr std::int64_t mx_block = ScaledFormat::mx_block;

/// Memory is absent where it is only measured.
template <class T>
T* part(const Tensor& memory, std::int64_t at) {
  return memory.data ? static_cast<T*>(memory.data) + at : nullptr;
}

/// [.., N, K] as [.., K, N].
Shape transpose_of(Shape s) {
  std::swap(s.dims[static_cast<std::size_t>(s.rank - 2)], s.dims[static_cast<std::size_t>(s.rank - 1)]);
  return s;
}

}  // namespace

bool ScaledCopies::Operand::is(const Shape& s) const {
  return s[s.rank - 1] == K && s[s.rank - 2] == N && s.num_elements() == E * N * K;
}

/// A region's parameters and what products read of them, from `end` on; returns where they end.
ScaledCopies::Place ScaledCopies::add(std::span<const Parameter* const> matrices, const Region& r, Device device,
                                      Place end) {
  const std::size_t first = operands_.size();
  for (const Parameter* p : matrices) {
    if (!p->is_map || p->offset < r.begin || p->offset >= r.end) continue;
    copies_.push_back({p->offset, p->local, end});
    end.bytes += bytes_of(dtype_, p->local);
    if (p->joined == Joined::no)
      operands_.push_back({p->offset, 1, 0, p->local[1], {}});
    else if (p->joined == Joined::as_matrix)
      ++operands_.back().E;
    operands_.back().N += p->local[0];  // of all its matrices, so far
  }
  for (std::size_t i = first; i < operands_.size(); ++i) {
    Operand& o = operands_[i];
    o.N /= o.E;
    o.at = end;
    end.elements += ColumnScaled::element_bytes(device, o.E * o.N, o.K, o.column_groups(), mx_block);
    end.scales += o.column_groups() * o.K;
    const std::int64_t alignment = ScaledFormat::row_alignment;
    end.transposed +=
        ScaledFormat::num_blocks(bytes_of(DType::e4m3_panels, transpose_of(o.shape())), alignment) * alignment;
  }
  return end;
}

ScaledCopies::ScaledCopies(const ParameterTable& table, std::span<const Region> regions, bool in_turn, DType dtype,
                           Arena& arena)
    : dtype_(dtype) {
  const std::vector<const Parameter*> matrices = table.of(ParameterSet::matrices);
  const auto waits = [&](const Region& r) { return in_turn && r.layer >= 0; };
  Place end;
  for (const Region& r : regions)
    if (!waits(r)) end = add(matrices, r, arena.device(), end);
  Place all = end;
  for (const Region& r : regions) {
    if (!waits(r)) continue;
    const Place of_layer = add(matrices, r, arena.device(), end);
    all = {std::max(all.bytes, of_layer.bytes), std::max(all.elements, of_layer.elements),
           std::max(all.scales, of_layer.scales), std::max(all.transposed, of_layer.transposed)};
  }
  const auto by_offset = [](const auto& a, const auto& b) { return a.offset < b.offset; };
  std::sort(copies_.begin(), copies_.end(), by_offset);
  std::sort(operands_.begin(), operands_.end(), by_offset);
  memory_ = arena.allocate({all.bytes}, DType::u8, "FP8 copies of matrices");
  if (has_transposed()) transposed_ = arena.allocate({all.transposed}, DType::u8, "FP8 copies of matrices, transposed");
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

/// The one that has these elements, on a GPU these alone.
const ScaledCopies::Operand& ScaledCopies::operand(std::int64_t offset, const Shape& shape) const {
  const auto after =
      std::partition_point(operands_.begin(), operands_.end(), [&](const Operand& o) { return o.offset <= offset; });
  FOURMI_CHECK(after != operands_.begin(), "no FP8 copy of what begins at {}", offset);
  const Operand& o = *std::prev(after);
  const bool whole = o.offset == offset && o.is(shape);
  FOURMI_CHECK(whole || (memory_.device == Device::cpu && offset + shape.num_elements() <= o.end()),
               "products read {} at {} together, not {} at {}", to_string(o.shape()), o.offset, to_string(shape),
               offset);
  return o;
}

Tensor ScaledCopies::of(std::int64_t offset, const Shape& shape) const {
  return Tensor(part<std::uint8_t>(memory_, place(offset).bytes), dtype_, shape, memory_.device);
}

ColumnScaled ScaledCopies::columns(std::int64_t offset, const Shape& shape) const {
  if (!has_columns()) return {};
  const Operand& o = operand(offset, shape);
  // A part of it (on the CPU, where elements lie as rows do) begins and ends with a group.
  const std::int64_t before = offset - o.offset, rows = shape.num_elements() / o.K;
  const bool whole = o.is(shape);
  const std::int64_t groups = whole ? o.column_groups() : ScaledFormat::num_blocks(rows, mx_block);
  return {
      Tensor(part<std::uint8_t>(column_elements_, o.at.elements + before), DType::u8, shape, memory_.device),
      Tensor(part<float>(column_scales_, o.at.scales + before / mx_block), DType::f32, {groups, o.K}, memory_.device),
      mx_block};
}

Tensor ScaledCopies::transposed(std::int64_t offset, const Shape& shape) const {
  if (!has_transposed()) return {};
  const Operand& o = operand(offset, shape);
  return Tensor(part<std::uint8_t>(transposed_, o.at.transposed), dtype_, transpose_of(shape), memory_.device);
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
  for (const Operand& o : operands_) {
    if (o.offset < r.begin || o.offset >= r.end) continue;
    if (has_transposed()) transpose_panels(stream, of(o.offset, o.shape()), transposed(o.offset, o.shape()));
    if (!has_columns()) continue;
    ColumnScaled columns = this->columns(o.offset, o.shape());
    columns.elements_MK.shape = {o.E * o.N, o.K};
    regroup_columns(stream, of(o.offset, {o.E * o.N, o.K}), columns, ColumnScale::power_of_two, {}, {.rows = o.N});
  }
}

}  // namespace fourmi
