// Linear maps of e4m3 elements with scales, of any shape. Elements become f16 (which has all of them) on their way to
// shared memory, sums over 128 of them stay f32 and are promoted by one fma with both scales; with scales of 32 (mx)
// these are multiplied in first, and the elements become bf16. So no sum is formed in the short accumulator of the FP8
// units. Floor: 2 M N K operations at the rate of linear_plain.cu, since the matrix units work on 16 bits; half its
// bytes.
#include "kernels/cuda/linear_mma.h"
#include "kernels/numerics/float8.h"

namespace fourmi::cuda::linear {
namespace {

constexpr int block = ScaledFormat::block, mx_block = ScaledFormat::mx_block;
using Byte = std::uint8_t;

/// A scale beside elements lies at any address, if a row's size is not a multiple of four.
__device__ float load_float(const Byte* p) {
  if (reinterpret_cast<std::uintptr_t>(p) % 4 == 0) return *reinterpret_cast<const float*>(p);
  return __uint_as_float(p[0] | std::uint32_t{p[1]} << 8 | std::uint32_t{p[2]} << 16 | std::uint32_t{p[3]} << 24);
}

/// Sixteen elements; those that share a scale with others inside of a chain have it beside them.
struct Elements {
  Vector<std::uint32_t, 4> words;
  __device__ std::uint32_t two(std::uint32_t bits) const { return f16_of_e4m3(bits & 0xffffu); }
};
struct ScaledElements {
  Vector<std::uint32_t, 4> words;
  float scale;
  __device__ std::uint32_t two(std::uint32_t bits) const { return bf16_of_e4m3(bits & 0xffffu, scale); }
};

/// What sides have in common.
template <bool along_, bool mx_>
struct Scaled {
  static constexpr bool along = along_, mx = mx_, promotes = !mx_;
  static constexpr int length = 16;
  using Raw = std::conditional_t<mx, ScaledElements, Elements>;
  const Byte* data = nullptr;
  bool aligned = false;  ///< sixteen elements from a multiple of sixteen on are one access

  static __device__ Vector<std::uint32_t, 4> eight_halves(const Raw& raw, int k) {
    const std::uint32_t first = raw.words.value[k / 4], second = raw.words.value[k / 4 + 1];
    return {{raw.two(first), raw.two(first >> 16), raw.two(second), raw.two(second >> 16)}};
  }
};

/// e4m3_rows, mxe4m3_rows. A group's are its rows, or those of its weights.
template <bool mx>
struct RowsSide : Scaled<true, mx> {
  using typename Scaled<true, mx>::Raw;
  int width = 0, stride = 0, rows_a_group = 0;  ///< 0: rows are the groups'

  __device__ void place(const Product& p) {
    this->data += (rows_a_group != 0 ? std::int64_t{p.group} * rows_a_group : p.begin) * stride;
  }
  __device__ Raw fetch(int row, int column, int valid) const {
    Raw raw{};
    if (valid <= 0) return raw;
    const Byte* const at = this->data + std::int64_t{row} * stride;
    raw.words = load_words<16>(at + column, valid, this->aligned);
    if constexpr (mx) raw.scale = static_cast<float>(float8_e8m0::from_bits(at[width + column / mx_block]));
    return raw;
  }
  __device__ float scale(int line, int group) const {
    return load_float(this->data + std::int64_t{line} * stride + width + 4 * group);
  }
};

/// e4m3_panels: weights.
template <bool along>
struct PanelsSide : Scaled<along, false> {
  int width = 0, height = 0, scale_bytes = 0;  ///< the last: of a panel

  __device__ void place(const Product& p) { this->data += p.group * ScaledFormat::panel_bytes(height, width); }
  __device__ Elements fetch(int row, int column, int valid) const {
    const std::int64_t at = std::int64_t{row} * width + std::int64_t{row / block} * scale_bytes + column;
    return {load_words<16>(this->data + at, valid, this->aligned)};
  }
  __device__ float scale(int line, int group) const {
    const int panel = along ? line / block : group, column_block = along ? group : line / block;
    const std::int64_t rows_before = min(height, (panel + 1) * block);
    return load_float(this->data + rows_before * width + std::int64_t{panel} * scale_bytes + 4 * column_block);
  }
};

/// ColumnScaled: what is summed lies together, and groups have all their places, with zeros behind the last row.
template <bool mx>
struct ColumnsSide : Scaled<true, mx> {
  using typename Scaled<true, mx>::Raw;
  static constexpr int group_rows = mx ? mx_block : block;
  const float* scales = nullptr;
  int lines = 0, places = 0;  ///< K and S of column_scaled.h
  int scales_a_group = 0;     ///< weights: groups of scales of one matrix; 0: of the group's rows

  __device__ void place(const Product& p) {
    const std::int64_t first = scales_a_group != 0 ? std::int64_t{p.group} * scales_a_group : p.first_scale;
    this->data += first * group_rows;
    scales += first * lines;
  }
  __device__ Raw fetch(int line, int s, int) const {
    Raw raw{};
    raw.words = load<4>(reinterpret_cast<const std::uint32_t*>(this->data + std::int64_t{line} * places + s));
    if constexpr (mx) raw.scale = scale(line, s / mx_block);
    return raw;
  }
  __device__ float scale(int line, int group) const { return scales[std::int64_t{group} * lines + line]; }
};

const Byte* elements_of(const Tensor& t) {
  return reinterpret_cast<const Byte*>(bytes(t));
}

/// x or dy, or mx weights.
template <bool mx>
RowsSide<mx> rows_of(const Tensor& t, std::int64_t rows_a_group) {
  RowsSide<mx> side;
  side.data = elements_of(t);
  side.width = static_cast<int>(t.dim(t.shape.rank - 1));
  side.stride = static_cast<int>(ScaledFormat::row_bytes(t.dtype, side.width));
  side.rows_a_group = static_cast<int>(rows_a_group);
  side.aligned = is_vector_aligned<16>(side.data, side.stride);
  return side;
}
template <bool along>
PanelsSide<along> panels_of(const Problem& p) {
  PanelsSide<along> side;
  side.data = elements_of(p.second);
  side.width = static_cast<int>(p.num_in), side.height = static_cast<int>(p.num_out);
  side.scale_bytes = static_cast<int>(ScaledFormat::panel_scale_bytes(side.width));
  side.aligned = is_vector_aligned<16>(side.data, side.width);
  return side;
}
template <bool mx>
ColumnsSide<mx> columns_of(const Problem& p, const Tensor& elements, const Tensor& scales_GK,
                           std::int64_t scales_a_group) {
  ColumnsSide<mx> side;
  const std::int64_t places = scales_GK.dim(0) * side.group_rows;
  FOURMI_CHECK(places < 1 << 30, "{}: columns with {} places", p.name, places);
  side.data = elements_of(elements);
  side.scales = pointer<float>(scales_GK);
  side.lines = static_cast<int>(scales_GK.dim(1)), side.places = static_cast<int>(places);
  side.scales_a_group = static_cast<int>(scales_a_group);
  FOURMI_CHECK(is_vector_aligned<16>(side.data, side.places), "{}: columns that begin at no multiple of 16 bytes",
               p.name);
  return side;
}

template <Map map, class A, class B>
void run_sides(const CudaStream& stream, const Problem& p, const A& a, const B& b) {
  const int scale_rows = map != Map::backward_weight ? 0 : A::mx ? mx_block : block;
  visit_output<map>(p, [&]<class Y>(std::type_identity<Y>) { launch_multiply<Y>(stream, p, a, b, scale_rows); });
}

template <bool mx>
void run_weight(const CudaStream& stream, const Problem& p) {
  run_sides<Map::backward_weight>(stream, p, columns_of<mx>(p, p.first, p.first_scales_GK, 0),
                                  columns_of<mx>(p, p.second, p.second_scales_GK, 0));
}

}  // namespace

void run_plain_scaled(const CudaStream& stream, const Problem& p) {
  const bool mx = p.input == Input::mxe4m3;
  switch (p.map) {
    case Map::forward:
      if (mx) return run_sides<Map::forward>(stream, p, rows_of<true>(p.first, 0), rows_of<true>(p.second, p.num_out));
      return run_sides<Map::forward>(stream, p, rows_of<false>(p.first, 0), panels_of<true>(p));
    case Map::backward_input:
      if (mx)
        return run_sides<Map::backward_input>(
            stream, p, rows_of<true>(p.first, 0),
            columns_of<true>(p, p.second, p.second_scales_GK, ScaledFormat::num_blocks(p.num_out, mx_block)));
      return run_sides<Map::backward_input>(stream, p, rows_of<false>(p.first, 0), panels_of<false>(p));
    case Map::backward_weight:
      return mx ? run_weight<true>(stream, p) : run_weight<false>(stream, p);
  }
}

}  // namespace fourmi::cuda::linear
