// Squares of 128 x 128 that share a scale: e4m3_panels, and quantize_blocks. Bound by memory: x is read once (a square
// stays in registers between amax and rounding), a byte an element is written: 3 bytes an element from bf16, 5 from
// f32. A block a square, sixteen lanes a row of it.
#include "kernels/cuda/operations.h"
#include "kernels/cuda/quantize_squares.h"
#include "kernels/cuda/quantize_statistics.h"

namespace fourmi::cuda {
namespace {

constexpr int side = ScaledFormat::block, threads = 512, rows_at_once = threads / 16, rounds = side / rows_at_once;

/// A square and the panel it is in.
struct Square {
  std::int64_t first_row;  ///< of all matrices' rows
  int rows, column, index;
  std::uint8_t* panel;
};
__device__ Square square_of(const Squares& q, std::int64_t first_panel) {
  const auto in_row = static_cast<unsigned>((q.K + side - 1) / side), in_matrix = static_cast<unsigned>(q.in_matrix);
  const unsigned p = static_cast<unsigned>(first_panel) + blockIdx.x / in_row, matrix = p / in_matrix;
  const std::int64_t in = p % in_matrix;
  Square s;
  s.index = static_cast<int>(blockIdx.x % in_row);
  s.column = s.index * side;
  s.first_row = matrix * q.N + in * side;
  s.rows = static_cast<int>(min(std::int64_t{side}, q.N - in * side));
  s.panel = q.data + matrix * q.matrix_bytes + in * q.panel_bytes;
  return s;
}

/// The largest of all threads' bits, in each of them.
__device__ std::uint32_t block_max(std::uint32_t most) {
  constexpr int warps = threads / warp_size;
  __shared__ std::uint32_t of_warp[warps];
  most = lane_group_max<warp_size>(most);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread % warp_size == 0) of_warp[thread / warp_size] = most;
  __syncthreads();
  return lane_group_max<warps>(of_warp[thread % warps]);
}

/// Scales of a square, and with a row's (a panel's) last one the zeros behind it; `sixteenth`: of the thread's row.
__device__ void store_scales(const Squares& q, const Square& s, float scale, int sixteenth) {
  const std::int64_t scale_bytes = std::int64_t{4} * ((q.K + side - 1) / side);
  const bool last = s.column + side >= q.K;
  const std::uint32_t bits = __float_as_uint(scale);
  if (q.panels) {
    std::uint8_t* const scales = s.panel + std::int64_t{s.rows} * q.K;
    if (threadIdx.x == 0) store_four(scales + 4 * s.index, bits);
    const std::int64_t zeros = (scale_bytes + 15) / 16 * 16 - scale_bytes;
    if (last && threadIdx.x < zeros) scales[scale_bytes + threadIdx.x] = 0;
    return;
  }
  for (int r = static_cast<int>(threadIdx.x) / 16; r < s.rows; r += rows_at_once) {
    std::uint8_t* const row = s.panel + r * q.stride;
    if (sixteenth == 0) store_four(row + q.K + 4 * s.index, bits);
    const std::int64_t zero = q.K + scale_bytes + sixteenth;  // fewer than sixteen
    if (last && zero < q.stride) row[zero] = 0;
  }
}

template <bool whole, class X>
__global__ void __launch_bounds__(threads)
    quantize_square(const X* __restrict__ x, const Squares q, std::int64_t first_panel, const GivenScales given) {
  const Square s = square_of(q, first_panel);
  const int sixteenth = static_cast<int>(threadIdx.x) % 16, column = s.column + 8 * sixteenth;
  const int top = static_cast<int>(threadIdx.x) / 16;
  Eight<X> e[rounds];
#pragma unroll
  for (int i = 0; i < rounds; ++i) {
    const int r = top + rows_at_once * i, valid = r < s.rows ? q.K - column : 0;
    e[i] = take_eight<whole>(x + (s.first_row + r) * q.K + column, valid);
  }
  GroupScale scale;
  if (given.count > 0) {
    scale = given.of_run(given.run_of(s.first_row));
  } else {
    std::uint32_t most = 0;
#pragma unroll
    for (int i = 0; i < rounds; ++i) most = max(most, largest_bits(e[i]));
    scale = scale_of_bits(max(block_max(most), q.floor), q.kind);
  }
#pragma unroll
  for (int i = 0; i < rounds; ++i) {
    const int r = top + rows_at_once * i;
    const Vector<std::uint32_t, 2> bytes = encode_eight(e[i], scale.inverse);
    if (r < s.rows && column < q.K) store_bytes<whole>(s.panel + r * q.stride + column, q.K - column, bytes);
  }
  store_scales(q, s, scale.scale, sixteenth);
}

}  // namespace

Squares squares_of(const Tensor& q, const Scaling& scaling) {
  const int rank = q.shape.rank;
  Squares s;
  s.data = reinterpret_cast<std::uint8_t*>(bytes(q));
  s.panels = q.dtype == DType::e4m3_panels;
  FOURMI_CHECK(rank >= 2 && q.dim(rank - 1) < std::int64_t{1} << 31, "squares of shape {}", to_string(q.shape));
  FOURMI_CHECK(scaling.floor >= 0, "a floor of {}", scaling.floor);
  const std::int64_t K = q.dim(rank - 1);
  s.K = static_cast<int>(K);
  s.N = q.dim(rank - 2);
  s.stride = s.panels ? K : ScaledFormat::row_bytes(q.dtype, K);
  s.panel_bytes = s.panels ? ScaledFormat::panel_bytes(side, K) : side * s.stride;
  s.matrix_bytes = s.panels ? ScaledFormat::panel_bytes(s.N, K) : s.N * s.stride;
  s.in_matrix = ScaledFormat::num_blocks(s.N);
  s.num_panels = q.num_elements() == 0 ? 0 : q.num_elements() / (s.N * K) * s.in_matrix;
  s.kind = scaling.kind;
  s.floor = std::bit_cast<std::uint32_t>(scaling.floor);
  return s;
}

void quantize_squares(const CudaStream& stream, const Tensor& x, const Squares& q, std::int64_t first,
                      std::int64_t count, const GivenScales& given) {
  const std::int64_t blocks = count * ScaledFormat::num_blocks(q.K);
  FOURMI_CHECK(blocks < std::int64_t{1} << 31 && q.num_panels < std::int64_t{1} << 31, "{} squares", blocks);
  if (blocks == 0) return;
  visit_quantized(x, "quantize", [&]<class X>(std::type_identity<X>) {
    const X* const from = pointer<X>(x);
    visit_bool(is_vector_aligned<vector_length<X>>(from, q.K) && is_vector_aligned<8>(q.data, q.K),
               [&]<bool whole>(std::bool_constant<whole>) {
                 launch(stream, quantize_square<whole, X>, static_cast<unsigned>(blocks), threads, 0, from, q, first,
                        given);
               });
  });
}

void quantize_blocks(const Stream& stream, const Tensor& x_MK, const Tensor& q_MK, const Scaling& scaling,
                     QuantizeStatistics* stats) {
  const Span span(stream.timeline(), Work::quantise, "quantize_blocks");
  FOURMI_CHECK(q_MK.dtype == DType::e4m3_rows && q_MK.shape.rank == 2 && q_MK.shape == x_MK.shape,
               "quantize_blocks: x {} {}, q {} {}", name_of(x_MK.dtype), to_string(x_MK.shape), name_of(q_MK.dtype),
               to_string(q_MK.shape));
  check_quantized(x_MK, q_MK, "quantize_blocks");
  const Squares q = squares_of(q_MK, scaling);
  quantize_squares(on(stream), x_MK, q, 0, q.num_panels, {});
  if (stats) count_quantized(on(stream), x_MK, q_MK, 0, q_MK.dim(0), *stats);
}

}  // namespace fourmi::cuda
