// Weights in panels change rows for columns. Bound by memory: 1 byte an element is read and 1 written. A thread turns
// a square of 16 x 16 in registers: its sixteen loads of 16 bytes are under way together, then come as many stores.
// Lanes lie so that 64 bytes together are read and 128 written, all of them whole sectors; no shared memory is needed.
// A matrix one of whose sizes is no multiple of 16 goes byte by byte.
#include "kernels/cuda/operations.h"
#include "kernels/cuda/quantize_elements.h"
#include "kernels/cuda/turn_bytes.h"
#include "kernels/ops/transpose_panels.h"

namespace fourmi::cuda {
namespace {

constexpr int block = ScaledFormat::block, side = 16, threads = block / side * (block / side);
using Sixteen = Vector<std::uint32_t, 4>;

struct Transpose {
  const std::uint8_t* w;
  std::uint8_t* wt;
  int N, K;
  std::int64_t w_matrix, wt_matrix;  ///< bytes of one
  std::int64_t w_scales, wt_scales;  ///< of a panel's
};

template <bool aligned>
__device__ Sixteen take(const std::uint8_t* from, int valid) {
  if constexpr (aligned) {
    return load<4>(reinterpret_cast<const std::uint32_t*>(from));
  } else {
    Sixteen v = {};
#pragma unroll
    for (int i = 0; i < side; ++i)
      if (i < valid) v.value[i / 4] |= std::uint32_t{from[i]} << 8 * (i % 4);
    return v;
  }
}
template <bool aligned>
__device__ void put(std::uint8_t* to, const Sixteen& v, int valid) {
  if constexpr (aligned) {
    store_global<4>(reinterpret_cast<std::uint32_t*>(to), v);
  } else {
#pragma unroll
    for (int i = 0; i < side; ++i)
      if (i < valid) to[i] = static_cast<std::uint8_t>(v.value[i / 4] >> 8 * (i % 4));
  }
}

template <bool aligned>
__global__ void __launch_bounds__(threads) transpose(const Transpose t) {
  const int thread = static_cast<int>(threadIdx.x), j = static_cast<int>(blockIdx.x), i = static_cast<int>(blockIdx.y);
  const std::uint8_t* const from = t.w + blockIdx.z * t.w_matrix + i * (std::int64_t{block} * t.K + t.w_scales);
  std::uint8_t* const to = t.wt + blockIdx.z * t.wt_matrix + j * (std::int64_t{block} * t.N + t.wt_scales);
  const int rows = min(block, t.N - i * block), columns = min(block, t.K - j * block);

  std::uint8_t* const scales = to + std::int64_t{columns} * t.N;
  const int scale_bytes = 4 * ((t.N + block - 1) / block);
  if (thread == 0) store_four(scales + 4 * i, load_four(from + std::int64_t{rows} * t.K + 4 * j));
  if (4 * (i + 1) == scale_bytes && thread < t.wt_scales - scale_bytes) scales[scale_bytes + thread] = 0;

  const int column = (thread % 4 + thread / 32 * 4) * side, row = thread / 4 % 8 * side;
  if (row >= rows || column >= columns) return;
  const std::uint8_t* const square = from + std::int64_t{row} * t.K + j * block + column;
  Sixteen words[side];
#pragma unroll
  for (int r = 0; r < side; ++r)
    words[r] = aligned || row + r < rows ? take<aligned>(square + std::int64_t{r} * t.K, columns - column) : Sixteen{};
  std::uint8_t* const turned = to + std::int64_t{column} * t.N + i * block + row;
#pragma unroll
  for (int c = 0; c < side; c += 4) {
    std::uint32_t four[4][4];  // of columns c to c + 3, rows 4 r to 4 r + 3
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const std::uint32_t in[4] = {words[4 * r].value[c / 4], words[4 * r + 1].value[c / 4],
                                   words[4 * r + 2].value[c / 4], words[4 * r + 3].value[c / 4]};
      turn_bytes(in, four[r]);
    }
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (aligned || column + c + k < columns)
        put<aligned>(turned + std::int64_t{c + k} * t.N, {four[0][k], four[1][k], four[2][k], four[3][k]}, rows - row);
  }
}

}  // namespace

void transpose_panels(const Stream& stream, const Tensor& w, const Tensor& wt) {
  const Span span(stream.timeline(), Work::quantise, "transpose_panels");
  const auto [E, N, K] = panels_to_transpose(w, wt);
  if (E == 0 || N == 0 || K == 0) return;
  const Transpose t{reinterpret_cast<const std::uint8_t*>(bytes(w)),
                    reinterpret_cast<std::uint8_t*>(bytes(wt)),
                    static_cast<int>(N),
                    static_cast<int>(K),
                    ScaledFormat::panel_bytes(N, K),
                    ScaledFormat::panel_bytes(K, N),
                    ScaledFormat::panel_scale_bytes(K),
                    ScaledFormat::panel_scale_bytes(N)};
  const std::int64_t panels = ceil_div(N, block);
  FOURMI_CHECK(N < 1 << 30 && K < 1 << 30 && panels < 1 << 16 && E < 1 << 16, "transpose_panels of {}",
               to_string(w.shape));
  const dim3 blocks(static_cast<unsigned>(ceil_div(K, block)), static_cast<unsigned>(panels), static_cast<unsigned>(E));
  const bool aligned = is_vector_aligned<side>(t.w, K) && is_vector_aligned<side>(t.wt, N);
  launch(on(stream), aligned ? transpose<true> : transpose<false>, blocks, threads, 0, t);
}

}  // namespace fourmi::cuda
