// The kernel that writes rows with scales from a tensor of floats: each group by its own amax, or by that of a run. For
// .cu files.
#pragma once

#include "kernels/cuda/quantize_elements.h"

namespace fourmi::cuda {

/// Each group by its own amax.
struct OwnScales {
  class OfWarp {
   public:
    __device__ OfWarp(const OwnScales&, std::int64_t) {}
    template <class X>
    __device__ GroupScale operator()(const ScaledRows& q, std::int64_t, const Eight<X>& e) const {
      std::uint32_t most = largest_bits(e);
      most = q.mx ? lane_group_max<4>(most) : lane_group_max<16>(most);
      return scale_of_bits(most > q.floor ? most : q.floor, q.kind);
    }
  };
};
/// Each by that of its row's run. A warp, whose rows ascend, searches for the first one's run and then goes on from run
/// to run.
struct ScalesOfRuns {
  GivenScales scales;

  class OfWarp {
   public:
    __device__ OfWarp(const ScalesOfRuns& all, std::int64_t first_row)
        : scales_(all.scales),
          run_(scales_.run_of(first_row)),
          end_(scales_.borders[run_ + 1]),
          scale_(scales_.of_run(run_)) {}
    template <class X>
    __device__ GroupScale operator()(const ScaledRows&, std::int64_t row, const Eight<X>&) {
      if (row >= end_) {
        do end_ = scales_.borders[++run_ + 1];
        while (row >= end_);
        scale_ = scales_.of_run(run_);
      }
      return scale_;
    }

   private:
    const GivenScales& scales_;
    int run_;
    std::int32_t end_;
    GroupScale scale_;
  };
};

/// With a group's first lane its scale, and with the last scale of a row the zeros behind it. `column` is that of the
/// lane's eight.
__device__ inline void store_scale_of_eight(const ScaledRows& q, std::uint8_t* row, int column, float scale) {
  const int group = q.mx ? column / 32 : column / 128;
  if (column != group * q.group()) return;
  std::uint8_t* at = row + q.size + group * q.scale_bytes();
  const std::uint32_t bits = __float_as_uint(scale);
  if (q.mx)
    *at = static_cast<std::uint8_t>(bits >> 23);  // NaN: 0xff
  else
    store_four(at, bits);
  if (column + q.group() >= q.size)
    for (at += q.scale_bytes(); at < row + q.stride; ++at) *at = 0;
}

/// A lane takes eight columns, so a group is 16 lanes (mx: 4).
template <bool whole, class X, class ScaleOf>
__global__ void __launch_bounds__(RowPieces::threads)
    quantize_rows(const X* __restrict__ x, const ScaledRows q, const RowPieces pieces, const ScaleOf scales) {
  constexpr int n = RowPieces::of_warp;
  const std::uint32_t first = RowPieces::first();
  if (first >= pieces.total) return;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  Eight<X> e[n];
  RowPieces::Place at = pieces.place(first);
#pragma unroll
  for (int i = 0; i < n; ++i, pieces.step(at)) {
    const int column = static_cast<int>(at.piece) * pieces.width + 8 * lane;
    const int valid = first + i < pieces.total ? q.size - column : 0;
    e[i] = take_eight<whole>(x + at.row * q.size + column, valid);
  }
  at = pieces.place(first);
  typename ScaleOf::OfWarp scale_of(scales, at.row);
#pragma unroll
  for (int i = 0; i < n; ++i, pieces.step(at)) {
    if (first + i >= pieces.total) return;
    const int column = static_cast<int>(at.piece) * pieces.width + 8 * lane;
    const GroupScale s = scale_of(q, at.row, e[i]);
    const Vector<std::uint32_t, 2> bytes = encode_eight(e[i], s.inverse);
    if (column >= q.size) continue;
    std::uint8_t* const row = q.data + at.row * q.stride;
    store_bytes<true>(row + column, whole ? 8 : q.size - column, bytes);  // rows begin at multiples of 16
    store_scale_of_eight(q, row, column, s.scale);
  }
}

/// Rows [first, first + count) of x into q.
template <class ScaleOf>
void launch_quantize_rows(const CudaStream& stream, const Tensor& x, const ScaledRows& q, std::int64_t first,
                          std::int64_t count, const ScaleOf& scales) {
  visit_quantized(x, "quantize", [&]<class X>(std::type_identity<X>) {
    const X* const from = pointer<X>(x);
    const RowPieces pieces(first, count, q.size, 8 * warp_size);
    visit_bool(is_vector_aligned<vector_length<X>>(from, q.size) && q.size % 8 == 0,
               [&]<bool whole>(std::bool_constant<whole>) {
                 launch(stream, quantize_rows<whole, X, ScaleOf>, pieces.num_blocks(), RowPieces::threads, 0, from, q,
                        pieces, scales);
               });
  });
}

}  // namespace fourmi::cuda
