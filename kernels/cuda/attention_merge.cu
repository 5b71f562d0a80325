// Joins attention over two sets of keys. Bound by memory: reads two outputs and writes one, 3 V elements a row and
// head. Sixteen lanes a row; element by element as on the CPU, so bits are equal.
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/operations.h"
#include "kernels/numerics/math.h"
#include "kernels/ops/attention.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256, lanes_a_row = 16;

/// What a row's outputs are multiplied by. A part without keys counts for nothing, even where it is not a number.
template <class T>
struct Joint {
  T keep, take, lse;
};
template <class T>
__device__ Joint<T> joint(T mine, T theirs) {
  const T most = mine > theirs ? mine : theirs;
  const T a = exp(mine - most), b = exp(theirs - most), sum = a + b;
  return {a / sum, b / sum, most + log(sum)};
}

template <class T>
__global__ void __launch_bounds__(threads) merge(const T* __restrict__ other_o, const T* __restrict__ other_lse, T* o,
                                                 T* lse, std::int64_t rows, std::int64_t V, bool whole) {
  constexpr int n = vector_length<T>, rows_a_block = threads / lanes_a_row;
  constexpr T nothing = -std::numeric_limits<T>::infinity();
  const int lane = static_cast<int>(threadIdx.x) % lanes_a_row;
  const std::int64_t step = std::int64_t{gridDim.x} * rows_a_block;
  for (std::int64_t first = std::int64_t{blockIdx.x} * rows_a_block; first < rows; first += step) {
    const std::int64_t row = first + threadIdx.x / lanes_a_row;
    const T mine = row < rows ? lse[row] : nothing, theirs = row < rows ? other_lse[row] : nothing;
    const T* const from = other_o + row * V;
    T* const to = o + row * V;
    Joint<T> f = joint(mine, theirs);
    if (theirs == nothing) {
      f.lse = mine;
    } else if (mine == nothing) {
      f.lse = theirs;
      for (std::int64_t c = lane; c < V; c += lanes_a_row) to[c] = from[c];
    } else if (whole) {
      for (std::int64_t c = lane * n; c < V; c += lanes_a_row * n) {
        const Vector<T, n> x = load<n>(from + c);
        Vector<T, n> y = load<n>(to + c);
#pragma unroll
        for (int e = 0; e < n; ++e) y.value[e] = fma(x.value[e], f.take, y.value[e] * f.keep);
        store<n>(to + c, y);
      }
    } else {
      for (std::int64_t c = lane; c < V; c += lanes_a_row) to[c] = fma(from[c], f.take, to[c] * f.keep);
    }
    __syncwarp();  // all lanes have read the row's lse
    if (lane == 0 && row < rows) lse[row] = f.lse;
  }
}

}  // namespace

void attention_merge(const Stream& stream, const Tensor& other_o_MHV, const Tensor& other_lse_MH, const Tensor& o_MHV,
                     const Tensor& lse_MH) {
  const Span span(stream.timeline(), Work::attention, "attention_merge");
  const std::int64_t rows = lse_MH.num_elements(), V = o_MHV.dim(2);
  FOURMI_CHECK(
      o_MHV.num_elements() == rows * V && other_o_MHV.num_elements() == rows * V && other_lse_MH.num_elements() == rows,
      "o {}, lse {}, other o {}, other lse {}", to_string(o_MHV.shape), to_string(lse_MH.shape),
      to_string(other_o_MHV.shape), to_string(other_lse_MH.shape));
  if (rows == 0) return;
  visit_accumulator(o_MHV.dtype, "attention_merge", [&]<class T>(std::type_identity<T>) {
    const T* const other_o = pointer<T>(other_o_MHV);
    T* const o = pointer<T>(o_MHV);
    constexpr int n = vector_length<T>;
    launch(on(stream), merge<T>, num_blocks(rows, threads / lanes_a_row, 16 * on(stream).card().num_multiprocessors),
           threads, 0, other_o, pointer<T>(other_lse_MH), o, pointer<T>(lse_MH), rows, V,
           is_vector_aligned<n>(other_o, V) && is_vector_aligned<n>(o, V));
  });
}

}  // namespace fourmi::cuda
