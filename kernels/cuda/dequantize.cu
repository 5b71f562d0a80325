// Elements times scales. Bound by memory: 1.03 bytes an element are read and 2 or 4 written, once each. A lane writes
// 16 bytes at a time.
#include "kernels/cuda/operations.h"
#include "kernels/cuda/scaled_layout.h"

namespace fourmi::cuda {
namespace {

/// The bytes of one vector of y: zeros from the `valid`-th on.
template <bool whole, int n>
__device__ Vector<std::uint32_t, n / 4> take_bytes(const std::uint8_t* from, int valid) {
  if constexpr (whole) {
    return load<n / 4>(reinterpret_cast<const std::uint32_t*>(from));
  } else {
    Vector<std::uint32_t, n / 4> v{};
#pragma unroll
    for (int i = 0; i < n; ++i)
      if (i < valid) v.value[i / 4] |= std::uint32_t{from[i]} << (8 * (i % 4));
    return v;
  }
}

template <bool whole, class Y>
__global__ void __launch_bounds__(RowPieces::threads)
    decode(const ScaledLayout q, Y* __restrict__ y, const RowPieces pieces) {
  constexpr int n = vector_length<Y>, many = RowPieces::of_warp;
  const std::uint32_t first = RowPieces::first();
  if (first >= pieces.total) return;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  Vector<std::uint32_t, n / 4> bytes[many];
  float scales[many];
  RowPieces::Place at = pieces.place(first);
#pragma unroll
  for (int i = 0; i < many; ++i, pieces.step(at)) {
    const int column = static_cast<int>(at.piece) * pieces.width + n * lane;
    const int valid = first + i < pieces.total ? q.K - column : 0;
    bytes[i] = {};
    scales[i] = 0;
    if (valid <= 0) continue;
    const ScaledLayout::Row row = q.row(at.row);
    bytes[i] = take_bytes<whole, n>(row.elements + column, valid);
    scales[i] = q.scale(row, column);
  }
  at = pieces.place(first);
#pragma unroll
  for (int i = 0; i < many; ++i, pieces.step(at)) {
    const int column = static_cast<int>(at.piece) * pieces.width + n * lane;
    const int valid = first + i < pieces.total ? q.K - column : 0;
    if (valid <= 0) continue;
    Vector<Y, n> values;
#pragma unroll
    for (int four = 0; four < n / 4; ++four) {
      float v[4];
      four_of_e4m3(bytes[i].value[four], v);
#pragma unroll
      for (int k = 0; k < 4; ++k) values.value[4 * four + k] = narrow<Y>(v[k] * scales[i]);
    }
    Y* const to = y + at.row * q.K + column;
    if constexpr (whole) {
      store<n>(to, values);
    } else {
#pragma unroll
      for (int k = 0; k < n; ++k)
        if (k < valid) to[k] = values.value[k];
    }
  }
}

}  // namespace

void dequantize(const Stream& stream, const Tensor& q, const Tensor& y) {
  const Span span(stream.timeline(), Work::quantise, "dequantize");
  check_quantized(y, q, "dequantize");
  const std::int64_t rows = num_rows(q);
  if (rows == 0) return;
  const ScaledLayout from = scaled_layout(q);
  visit_quantized(y, "dequantize", [&]<class Y>(std::type_identity<Y>) {
    constexpr int n = vector_length<Y>;
    Y* const to = pointer<Y>(y);
    const RowPieces pieces(0, rows, from.K, n * warp_size);
    visit_bool(is_vector_aligned<n>(to, from.K) && is_vector_aligned<n>(from.data, from.K),
               [&]<bool whole>(std::bool_constant<whole>) {
                 launch(on(stream), decode<whole, Y>, pieces.num_blocks(), RowPieces::threads, 0, from, to, pieces);
               });
  });
}

}  // namespace fourmi::cuda
