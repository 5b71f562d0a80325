// Groups along rows become groups down columns. A task takes whole tiles of columns through all groups of rows.
#include <atomic>

#include "kernels/cpu/row_groups.h"
#include "kernels/cpu/scaled_groups.h"
#include "kernels/ops/door.h"

namespace fourmi {
namespace {

using namespace float8;

constexpr std::int64_t most_columns = 64, most_rows = ScaledFormat::block;

struct Regroup {
  const Primitives& primitives;
  const Byte* rows;
  std::int64_t stride, K;
  bool mx;
  ColumnScale rule;
  Byte* elements;
  float* scales;

  std::int64_t tile_columns() const { return mx ? ScaledFormat::mx_block : most_columns; }
  float scale_at(std::int64_t row, std::int64_t column) const {
    const Byte* s = rows + row * stride + K;
    return mx ? static_cast<float>(float8_e8m0::from_bits(s[column / ScaledFormat::mx_block]))
              : load_scale(s + 4 * (column / ScaledFormat::block));
  }

  /// In integers, where that works: scales that are powers of two and stay so. Else -1.
  std::int64_t shift(const RowGroup& group, std::int64_t first, std::int64_t n) const {
    if (primitives.shift_columns == nullptr || rule != ColumnScale::power_of_two) return -1;
    std::uint8_t exponents[most_rows], column_exponents[most_columns];
    for (std::int64_t r = group.begin; r < group.end; ++r) {
      const auto bits = std::bit_cast<std::uint32_t>(scale_at(r, first));
      if ((bits & 0x807fffffu) != 0 || bits == 0 || bits == 0x7f800000u) return -1;
      exponents[r - group.begin] = static_cast<std::uint8_t>(bits >> 23);
    }
    const std::int64_t lossy =
        primitives.shift_columns({rows + group.begin * stride + first, stride, exponents, group.end - group.begin, n,
                                  elements + group.begin * K + first, K, column_exponents});
    for (std::int64_t c = 0; c < n && lossy >= 0; ++c)
      scales[group.index * K + first + c] = std::bit_cast<float>(std::uint32_t{column_exponents[c]} << 23);
    return lossy;
  }

  /// Rows of a group, n columns of one tile from `first` on; returns how many elements are lossy.
  std::int64_t operator()(const RowGroup& group, std::int64_t first, std::int64_t n) const {
    const std::int64_t shifted = shift(group, first, n);
    if (shifted >= 0) return shifted;
    std::uint32_t amax[most_columns] = {};
    float inverses[most_columns];
    float* const s = scales + group.index * K + first;
    if (rule == ColumnScale::largest) {
      std::uint32_t most = 0;
      for (std::int64_t r = group.begin; r < group.end; ++r)
        most = std::max(most, std::bit_cast<std::uint32_t>(scale_at(r, first)));
      const auto scale = std::bit_cast<float>(most);
      for (std::int64_t c = 0; c < n; ++c) s[c] = scale, inverses[c] = 1 / scale;
    } else {
      const ScaleKind kind = rule == ColumnScale::f32 ? ScaleKind::f32 : ScaleKind::power_of_two;
      for (std::int64_t r = group.begin; r < group.end; ++r)
        primitives.column_amax(rows + r * stride + first, n, scale_at(r, first), amax);
      for (std::int64_t c = 0; c < n; ++c) {
        const GroupScale g = scale_of_bits(amax[c], kind);
        s[c] = g.scale, inverses[c] = g.inverse;
      }
    }
    std::int64_t lossy = 0;
    for (std::int64_t r = group.begin; r < group.end; ++r)
      lossy += primitives.encode_columns(rows + r * stride + first, n, scale_at(r, first), s, inverses,
                                         elements + r * K + first);
    return lossy;
  }
};

}  // namespace

void regroup_columns(const Stream& stream, const Tensor& q_MK, const ColumnScaled& columns, ColumnScale rule,
                     std::span<const std::int32_t> offsets, const Cuts& cuts, std::int64_t* lossy) {
  FOURMI_DOOR(regroup_columns, stream, q_MK, columns, rule, offsets, cuts, lossy);
  const Span span(stream.timeline(), Work::quantise, "regroup_columns");
  const bool mx = q_MK.dtype == DType::mxe4m3_rows;
  FOURMI_CHECK((mx || q_MK.dtype == DType::e4m3_rows) && q_MK.shape.rank == 2, "regroup_columns of {} {}",
               name_of(q_MK.dtype), to_string(q_MK.shape));
  const std::int64_t M = q_MK.dim(0), K = q_MK.dim(1);
  const RowGroups groups{offsets, M, cuts, columns.group_rows};
  FOURMI_CHECK(columns.group_rows > 0 && columns.group_rows <= most_rows && columns.elements_MK.dtype == DType::u8 &&
                   columns.elements_MK.num_elements() >= M * K && columns.scales_GK.dim(1) == K &&
                   groups.num_groups() <= columns.scales_GK.dim(0),
               "regroup_columns: {} into elements {} {}, scales {} for {} groups of {} rows", to_string(q_MK.shape),
               name_of(columns.elements_MK.dtype), to_string(columns.elements_MK.shape),
               to_string(columns.scales_GK.shape), groups.num_groups(), columns.group_rows);
  FOURMI_CHECK(offsets.empty() || (offsets.front() >= 0 && offsets.back() <= M),
               "regroup_columns: {} rows, offsets to {}", M, offsets.empty() ? 0 : offsets.back());
  const Regroup regroup{primitives(stream.isa()),
                        static_cast<const Byte*>(q_MK.data),
                        ScaledFormat::row_bytes(q_MK.dtype, K),
                        K,
                        mx,
                        rule,
                        static_cast<Byte*>(columns.elements_MK.data),
                        columns.scales_GK.as<float>()};
  std::atomic<std::int64_t> total = 0;
  const std::int64_t width = regroup.tile_columns();
  stream.pool().parallel_for(ScaledFormat::num_blocks(K, width), 1, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t mine = 0;
    groups.for_each_group([&](const RowGroup& group) {
      for (std::int64_t c = begin * width; c < std::min(K, end * width); c += width)
        mine += regroup(group, c, std::min(width, K - c));
    });
    total.fetch_add(mine, std::memory_order_relaxed);
  });
  if (lossy) *lossy += total.load();
}

}  // namespace fourmi
