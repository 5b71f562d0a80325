// Linear maps in f64 and f32, of any shape, by fused multiply-adds: one chain an element, ascending, as on the CPU. So
// their results are the CPU's to the bit, but for the sign of a chain that has underflowed to -0. Bound by arithmetic:
// 2 M N K operations at 60 (f32) or 30 (f64) Tflop/s. f32 is the router's; f64 is for tests.
#include "kernels/cuda/linear_tiles.h"
#include "kernels/numerics/math.h"

namespace fourmi::cuda::linear {
namespace {

constexpr int threads = 256, side_threads = 16;  // 16 x 16 threads a tile

/// A thread has four (two) rows and columns that lie together, then those half a tile further, ...
template <class T>
struct FmaShape {
  static constexpr int n = vector_length<T>;             // elements of a vector
  static constexpr int each = sizeof(T) == 4 ? 8 : 4;    // rows, and columns, of a thread
  static constexpr int depth = sizeof(T) == 4 ? 8 : 16;  // of the sum in shared memory at a time
  static constexpr int tile = side_threads * each;
  static constexpr int row = tile + n;                        // elements of shared memory for one s
  static constexpr int vectors = tile * depth / n / threads;  // that a thread moves of a side
};

/// A thread's part of a tile of one side on its way to shared memory, where lines lie together.
template <class Side, class T>
struct Loader {
  using S = FmaShape<T>;
  Vector<T, S::n> part[S::vectors];

  /// Where a vector begins in its tile.
  struct Place {
    int line, s;
  };
  static __device__ Place at(int i) {
    const int v = static_cast<int>(threadIdx.x) + i * threads;
    if constexpr (Side::along) return {v / (S::depth / S::n), v % (S::depth / S::n) * S::n};
    return {v % (S::tile / S::n) * S::n, v / (S::tile / S::n)};
  }
  __device__ void fetch(const Side& side, int line, int lines, int s, int sum) {
#pragma unroll
    for (int i = 0; i < S::vectors; ++i) {
      const Place v = at(i);
      const int row = Side::along ? line + v.line : s + v.s, column = Side::along ? s + v.s : line + v.line;
      const int valid = row < (Side::along ? lines : sum) ? (Side::along ? sum : lines) - column : 0;
      const T* const from = side.data + std::int64_t{row} * side.stride + column;
      if (side.aligned && valid >= S::n) {
        part[i] = load<S::n>(from);
      } else {
#pragma unroll
        for (int k = 0; k < S::n; ++k) part[i].value[k] = k < valid ? from[k] : T{0};
      }
    }
  }
  __device__ void put(T* shared) const {
#pragma unroll
    for (int i = 0; i < S::vectors; ++i) {
      const Place v = at(i);
      if constexpr (Side::along) {
#pragma unroll
        for (int k = 0; k < S::n; ++k) shared[(v.s + k) * S::row + v.line] = part[i].value[k];
      } else {
        store<S::n>(shared + v.s * S::row + v.line, part[i]);
      }
    }
  }
};

/// The first of the rows (columns) of a thread in its tile: `k` counts them.
template <class T>
__device__ int line_of(int thread, int k) {
  constexpr int n = vector_length<T>;
  return k / n * n * side_threads + thread * n + k % n;
}

template <class T>
__device__ void take(const T* shared, int thread, T (&values)[FmaShape<T>::each]) {
  constexpr int n = vector_length<T>;
#pragma unroll
  for (int k = 0; k < FmaShape<T>::each; k += n) {
    const Vector<T, n> v = load<n>(shared + line_of<T>(thread, k));
#pragma unroll
    for (int i = 0; i < n; ++i) values[k + i] = v.value[i];
  }
}

template <class A, class B, class T>
__global__ void __launch_bounds__(threads, 2) multiply(A a, B b, Output<T> out, const Groups groups) {
  using S = FmaShape<T>;
  Tile tile;
  if (!find_tile(groups, S::tile, S::tile, tile)) return;
  const Product& p = tile.product;
  a.place(p), b.place(p);
  alignas(16) __shared__ T shared[2][2][S::depth * S::row];
  Loader<A, T> first;
  Loader<B, T> second;
  const int ty = static_cast<int>(threadIdx.x) / side_threads, tx = static_cast<int>(threadIdx.x) % side_threads;
  T sums[S::each][S::each] = {};
  first.fetch(a, tile.row, p.height, 0, p.sum);
  second.fetch(b, tile.column, p.width, 0, p.sum);
  int buffer = 0;
  for (int s = 0; s < p.sum; s += S::depth, buffer ^= 1) {
    first.put(shared[buffer][0]);
    second.put(shared[buffer][1]);
    __syncthreads();  // one a step is enough: who fills a buffer again has seen all leave it one barrier ago
    first.fetch(a, tile.row, p.height, s + S::depth, p.sum);
    second.fetch(b, tile.column, p.width, s + S::depth, p.sum);
#pragma unroll 4
    for (int k = 0; k < S::depth; ++k) {
      T x[S::each], y[S::each];
      take(shared[buffer][0] + k * S::row, ty, x);
      take(shared[buffer][1] + k * S::row, tx, y);
#pragma unroll
      for (int i = 0; i < S::each; ++i)
#pragma unroll
        for (int j = 0; j < S::each; ++j) sums[i][j] = fma(x[i], y[j], sums[i][j]);
    }
  }
  out.place(p);
#pragma unroll
  for (int i = 0; i < S::each; ++i) {
    const int row = tile.row + line_of<T>(ty, i);
    if (row >= p.height) continue;
#pragma unroll
    for (int j = 0; j < S::each; j += 2)
      out.put_pair(row, tile.column + line_of<T>(tx, j), p.width, sums[i][j], sums[i][j + 1]);
  }
}

template <class T>
void run_as(const CudaStream& stream, const Problem& p) {
  visit_sides<T>(p, [&]<class A, class B>(const A& a, const B& b) {
    const Groups groups = groups_of(stream, p, FmaShape<T>::tile, FmaShape<T>::tile);
    launch(stream, multiply<A, B, T>, num_tiles(groups), threads, 0, a, b, output_of<T>(p), groups);
  });
}

}  // namespace

void run_fma(const CudaStream& stream, const Problem& p) {
  if (p.input == Input::f64) return run_as<double>(stream, p);
  run_as<float>(stream, p);
}

}  // namespace fourmi::cuda::linear
