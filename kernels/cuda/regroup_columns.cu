// Rows with scales become columns with scales, and change places: the transpose that knows scales. Products over rows
// (linear_backward_weight of ColumnScaled, mx: linear_backward_input too) read what stands here. Let S = G *
// group_rows, G the first dim of scales_GK, and g the index of a group that exists (kernels/cpu/row_groups.h; their
// number may be smaller than G). They may rely on:
// - the i-th row of group g, column k: its byte is at elements[k * S + g * group_rows + i], its scale at
//   scales[g * K + k]; a group's bytes of one column are contiguous, and those of group g + 1 follow.
// - where group g has fewer than group_rows rows (the last one of its run) the bytes behind them are 0, for each k < K:
//   0 times a scale that is NaN is NaN all the same, which is what such a scale is to make of its group.
// - of groups that do not exist nothing: neither their bytes nor their scales are written, they hold what was there.
// - rows outside of all runs are in no group, so have no place. elements has room for S * K bytes: its shape, [M, K],
//   need not say so. If it begins at a multiple of 16 every column does, since S is a multiple of 32.
//
// Bound by memory: 1.03 bytes an element are read and 1.03 written. A block takes 128 columns of 128 places (one group,
// or mx four); rows stay in registers between amax and rounding, and shared memory turns what is written, so that both
// sides are moved in pieces of 128 bytes. Some 16 instructions an element, 12 where scales are powers of two, of a
// budget of 16 to 18. Counting lossy elements costs 5 more; then the host waits.
#include "kernels/cuda/operations.h"
#include "kernels/cuda/regroup_rows.h"
#include "kernels/cuda/row_groups.h"
#include "kernels/cuda/turn_bytes.h"
#include "kernels/numerics/power_of_two.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256, warps = threads / warp_size, tile = 128;

struct Regroup {
  const std::uint8_t* q = nullptr;
  std::int64_t stride = 0;
  int K = 0, stripe = 0;
  ColumnScale rule = ColumnScale::f32;
  GroupTable groups;
  std::uint8_t* elements = nullptr;
  std::int64_t S = 0;
  float* scales = nullptr;
  unsigned long long* lossy = nullptr;
  bool aligned = false;  ///< elements, to 16 bytes
};

/// Stripes of 2^stripe tiles go down all rows, so that neighbours of what is read and of what is written are under way
/// together.
struct Tile {
  int row, column;
};
__device__ Tile tile_of(int stripe) {
  return {static_cast<int>(blockIdx.x >> stripe),
          static_cast<int>(blockIdx.y << stripe | (blockIdx.x & ((1u << stripe) - 1)))};
}

__device__ GroupScale scale_of_column(std::uint32_t bits, ColumnScale rule) {
  if (rule == ColumnScale::largest) return {__uint_as_float(bits), 1 / __uint_as_float(bits)};
  return scale_of_bits(bits, rule == ColumnScale::f32 ? ScaleKind::f32 : ScaleKind::power_of_two);
}

__device__ void store_sixteen(std::uint8_t* to, const Sixteen& bytes, bool aligned) {
  if (aligned) {
    store<4>(reinterpret_cast<std::uint32_t*>(to), bytes);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) store_four(to + 4 * i, bytes.value[i]);
  }
}

template <bool mx, bool counts>
__global__ void __launch_bounds__(threads) regroup(const Regroup r) {
  constexpr int group_rows = mx ? 32 : 128, num_groups = tile / group_rows, warps_of_group = warps / num_groups;
  static_assert(warps * rows_of_lane == tile && threads / 8 == tile / 4);
  __shared__ Sixteen turned[tile * tile / 16];  // of columns, see place()
  __shared__ typename RowScales<mx>::Shared row_scales[warps];
  alignas(16) __shared__ std::uint32_t most[warps][tile];
  alignas(16) __shared__ float scales[num_groups][tile], inverses[num_groups][tile];
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  const Tile at = tile_of(r.stripe);
  const int first_column = at.column * tile, column = first_column + 4 * lane;
  if (first_column >= r.K) return;
  const int first_group = at.row * num_groups, group = warp / warps_of_group;
  // Sixteen rows of a group to a warp; from the `valid`-th on they are no rows of the group.
  GroupTable::Group rows{0, 0};
  if (first_group + group < r.groups.num_groups) rows = r.groups(first_group + group);
  const int first_row = warp % warps_of_group * rows_of_lane, valid = rows.rows - first_row;
  const std::uint8_t* const from = r.q + (rows.begin + first_row) * r.stride;
  std::uint32_t words[rows_of_lane];
  take_words(from + column, r.stride, column < r.K ? valid : 0, words);
  const RowScales<mx> rows_scales(from + r.K + 4 * at.column, r.stride, valid, (r.K - first_column + 31) / 32,
                                  row_scales[warp]);

  const bool largest = r.rule == ColumnScale::largest;
  store<4>(&most[warp][4 * lane], largest              ? largest_scale(rows_scales, valid)
                                  : rows_scales.near() ? largest_halves(rows_scales, words)
                                                       : largest_values(rows_scales, words));
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < num_groups * tile; i += threads) {
    const int g = i / tile, c = i % tile;
    std::uint32_t bits = 0;
#pragma unroll
    for (int w = 0; w < warps_of_group; ++w) bits = max(bits, most[g * warps_of_group + w][c]);
    const GroupScale s = scale_of_column(bits, r.rule);
    scales[g][c] = s.scale, inverses[g][c] = s.inverse;
    if (first_group + g < r.groups.num_groups && first_column + c < r.K)
      r.scales[std::int64_t{first_group + g} * r.K + first_column + c] = s.scale;
  }
  __syncthreads();

  const Vector<float, 4> scale = load<4>(&scales[group][4 * lane]), inverse = load<4>(&inverses[group][4 * lane]);
  int lossy[4] = {};
  if (counts || r.rule != ColumnScale::power_of_two || !rows_scales.near() ||
      !encode_halves(rows_scales, inverse, words))
    encode_words<counts>(rows_scales, scale, inverse, words, lossy);
  if (valid < rows_of_lane)
#pragma unroll
    for (int i = 0; i < rows_of_lane; ++i)
      if (i >= valid) words[i] = 0;

  // Sixteen places of column c, the w-th of eight: neighbouring lanes write, and read, without conflicts of banks.
  const auto place = [](int c, int w) { return c * 8 + (w ^ (c / 4 % 8)); };
  std::uint32_t columns[4][4];
#pragma unroll
  for (int i = 0; i < 4; ++i) turn_bytes(words + 4 * i, columns[i]);
#pragma unroll
  for (int k = 0; k < 4; ++k)
    turned[place(4 * lane + k, warp)] = {columns[0][k], columns[1][k], columns[2][k], columns[3][k]};
  __syncthreads();
  const int w = lane % 8, first = static_cast<int>(threadIdx.x) / 8;
  if (first_group + w * 16 / group_rows < r.groups.num_groups) {
    std::uint8_t* to = r.elements + (first_column + first) * r.S + std::int64_t{at.row} * tile + 16 * w;
#pragma unroll
    for (int i = 0; i < 4; ++i, to += tile / 4 * r.S)
      if (first_column + first + tile / 4 * i < r.K)
        store_sixteen(to, turned[place(first + tile / 4 * i, w)], r.aligned);
  }
  if constexpr (counts) {
    int sum = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) sum += column + k < r.K ? lossy[k] : 0;  // rows that are none hold zeros: not lossy
    sum = lane_group_sum<warp_size>(sum);
    if (lane == 0 && sum > 0) atomicAdd(r.lossy, static_cast<unsigned long long>(sum));
  }
}

}  // namespace

void regroup_columns(const Stream& stream, const Tensor& q_MK, const ColumnScaled& columns, ColumnScale rule,
                     std::span<const std::int32_t> offsets, const Cuts& cuts, std::int64_t* lossy) {
  const Span span(stream.timeline(), Work::quantise, "regroup_columns");
  const bool mx = q_MK.dtype == DType::mxe4m3_rows;
  FOURMI_CHECK((mx || q_MK.dtype == DType::e4m3_rows) && q_MK.shape.rank == 2, "regroup_columns of {} {}",
               name_of(q_MK.dtype), to_string(q_MK.shape));
  const std::int64_t M = q_MK.dim(0), K = q_MK.dim(1);
  FOURMI_CHECK(offsets.empty() || (offsets.front() >= 0 && offsets.back() <= M),
               "regroup_columns: {} rows, offsets to {}", M, offsets.empty() ? 0 : offsets.back());
  FOURMI_CHECK(cuts.rows >= 0 && columns.group_rows == (mx ? 32 : 128), "regroup_columns: {} in groups of {} on a GPU",
               name_of(q_MK.dtype), columns.group_rows);
  Regroup r;
  r.groups = group_table(on(stream), offsets, M, cuts, columns.group_rows);
  FOURMI_CHECK(columns.elements_MK.dtype == DType::u8 && columns.elements_MK.num_elements() >= M * K &&
                   columns.scales_GK.dim(1) == K && r.groups.num_groups <= columns.scales_GK.dim(0),
               "regroup_columns: {} into elements {} {}, scales {} for {} groups of {} rows", to_string(q_MK.shape),
               name_of(columns.elements_MK.dtype), to_string(columns.elements_MK.shape),
               to_string(columns.scales_GK.shape), r.groups.num_groups, columns.group_rows);
  if (r.groups.num_groups == 0 || K == 0) return;
  r.q = reinterpret_cast<const std::uint8_t*>(bytes(q_MK));
  r.stride = ScaledFormat::row_bytes(q_MK.dtype, K);
  r.K = static_cast<int>(K);
  r.rule = rule;
  r.elements = reinterpret_cast<std::uint8_t*>(bytes(columns.elements_MK));
  r.S = columns.scales_GK.dim(0) * columns.group_rows;
  r.scales = pointer<float>(columns.scales_GK);
  r.aligned = is_vector_aligned<16>(r.elements, r.S);
  const std::int64_t column_tiles = ceil_div(K, tile),
                     row_tiles = ceil_div(r.groups.num_groups * columns.group_rows, tile);
  r.stripe = std::min(3, tree_levels(column_tiles));
  const std::int64_t stripes = ceil_div(column_tiles, std::int64_t{1} << r.stripe);
  FOURMI_CHECK(stripes < 1 << 16 && row_tiles < 1 << 28 && is_vector_aligned<16>(r.q, 16),
               "regroup_columns of {} at {}", to_string(q_MK.shape), static_cast<const void*>(r.q));
  const dim3 blocks(static_cast<unsigned>(row_tiles << r.stripe), static_cast<unsigned>(stripes));
  const auto run = [&](auto* kernel) { launch(on(stream), kernel, blocks, threads, 0, r); };
  if (!lossy) return run(mx ? regroup<true, false> : regroup<false, false>);
  r.lossy = on(stream).workspace<unsigned long long>(1);
  check(cudaMemsetAsync(r.lossy, 0, sizeof(*r.lossy), on(stream).handle()), "regroup_columns");
  run(mx ? regroup<true, true> : regroup<false, true>);
  *lossy += static_cast<std::int64_t>(on(stream).fetch(r.lossy));
}

}  // namespace fourmi::cuda
