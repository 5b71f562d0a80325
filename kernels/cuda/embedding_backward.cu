// The gradient of the embedding's table: for each token the rows of dx at its positions are added to its row of dtable,
// ascending, one by one: the CPU's order and bits. No element has two writers.
//
// Positions are grouped by sorting pairs (row, position), all of them different: tiles of 2048 in shared memory, then
// each pair's place among all tiles by binary searches. The cost depends on the number of tokens M alone, not on the
// vocabulary: some 15 us for M = 32768, in pieces of 65536. Then a warp takes a token and some columns. Bound by memory
// there: M D elements of dx are read, and the rows of dtable that occur are read and written (for 32768 tokens, 8192 of
// them different, of D = 2048 in bf16: 134 + 134 MB, 62 us at 4.3 TB/s). What may take longer is one token's chain,
// eight rows in flight: about 0.1 us a row, so 3 ms where all of 32768 tokens are the same.
//
// Tokens outside the vocabulary are skipped like negative ones. The CPU refuses them here too; the forward pass has
// read the same tokens and refused them, and the host does not wait a second time.
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/operations.h"
#include "kernels/ops/embedding.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int tile = 2048, sorters = tile / 2;
constexpr std::int64_t piece = 65536;  // positions that are sorted together
constexpr int threads = 256, num_warps = threads / warp_size;

/// A row of dtable, or nowhere, in the upper half; a position in the lower.
using Key = unsigned long long;
constexpr std::uint32_t nowhere = 0xffffffffu;
__device__ std::uint32_t row_of(Key key) {
  return static_cast<std::uint32_t>(key >> 32);
}
__device__ std::uint32_t position_of(Key key) {
  return static_cast<std::uint32_t>(key);
}

/// Tokens of whose rows dtable has [first, first + rows).
struct Rows {
  std::int64_t first, rows, vocabulary;
  __device__ std::uint32_t at(std::int32_t token) const {
    const std::int64_t row = token - first;
    return token >= 0 && token < vocabulary && row >= 0 && row < rows ? static_cast<std::uint32_t>(row) : nowhere;
  }
};

/// Each block a tile of keys, ascending (a bitonic network); behind `num` they are nowhere.
__global__ void __launch_bounds__(sorters)
    sort_tiles(const std::int32_t* __restrict__ tokens, std::int64_t num, const Rows rows, Key* __restrict__ sorted) {
  __shared__ Key key[tile];
  const int t = static_cast<int>(threadIdx.x);
  const std::int64_t first = std::int64_t{blockIdx.x} * tile;
#pragma unroll
  for (int i = t; i < tile; i += sorters) {
    const std::uint32_t row = first + i < num ? rows.at(tokens[first + i]) : nowhere;
    key[i] = Key{row} << 32 | static_cast<std::uint32_t>(first + i);
  }
  for (int size = 2; size <= tile; size *= 2)
    for (int apart = size / 2; apart > 0; apart /= 2) {
      __syncthreads();
      const int i = 2 * t - (t & (apart - 1));  // of the pair i, i + apart
      const Key a = key[i], b = key[i + apart];
      if ((a > b) == ((i & size) == 0)) key[i] = b, key[i + apart] = a;
    }
  __syncthreads();
#pragma unroll
  for (int i = t; i < tile; i += sorters) sorted[first + i] = key[i];
}

/// Each key to its place among all: so many are below it in its tile and in the others.
__global__ void __launch_bounds__(threads)
    merge_tiles(const Key* __restrict__ tiles, int num_tiles, Key* __restrict__ sorted) {
  constexpr int at_once = 4;  // tiles that are searched together
  const int i = static_cast<int>(blockIdx.x) * threads + static_cast<int>(threadIdx.x), mine = i / tile;
  const Key key = tiles[i];
  int place = i % tile;
  for (int first = 0; first < num_tiles; first += at_once) {
    const Key* other[at_once];
    int below[at_once] = {};
#pragma unroll
    for (int u = 0; u < at_once; ++u) other[u] = tiles + (first + u < num_tiles ? first + u : mine) * tile;
#pragma unroll
    for (int half = tile / 2; half > 0; half /= 2)
#pragma unroll
      for (int u = 0; u < at_once; ++u) below[u] += other[u][below[u] + half - 1] < key ? half : 0;
#pragma unroll
    for (int u = 0; u < at_once; ++u)
      if (other[u] != tiles + mine * tile) place += below[u] + (other[u][below[u]] < key ? 1 : 0);
  }
  sorted[place] = key;
}

/// sum += rows of dx, ascending, all of them loaded first: those of the keys of lanes j, j + 1 ... j + num - 1. `dx` is
/// at this lane's column.
template <int num, class X, class T, int n>
__device__ void add_rows_of(const X* dx, std::int64_t size, Key key, int j, Vector<T, n>& sum) {
  Vector<X, n> v[num];
#pragma unroll
  for (int u = 0; u < num; ++u) v[u] = load<n>(dx + __shfl_sync(all_lanes, position_of(key), j + u) * size);
#pragma unroll
  for (int u = 0; u < num; ++u)
#pragma unroll
    for (int k = 0; k < n; ++k) sum.value[k] += widen<T>(v[u].value[k]);
}

/// A warp a key: if a run of keys with one row begins there, that run; blockIdx.x is the part of rows, n columns a
/// lane. dx begins at the piece.
template <int n, class X>
__global__ void __launch_bounds__(threads, 3)
    add_rows(const Key* __restrict__ sorted, std::int64_t num_sorted, std::int64_t num, const X* __restrict__ dx,
             Accumulator<X>* __restrict__ dtable, std::int64_t size) {
  using T = Accumulator<X>;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const std::int64_t column = (std::int64_t{blockIdx.x} * warp_size + lane) * n;
  const bool writes = column < size;
  dx += writes ? column : size - n;  // lanes behind the end read what the last one reads
  dtable += writes ? column : size - n;
  const std::int64_t step = std::int64_t{gridDim.y} * num_warps;
#pragma unroll 1
  for (std::int64_t i = std::int64_t{blockIdx.y} * num_warps + threadIdx.x / warp_size; i < num; i += step) {
    std::int64_t at = i;
    const std::uint32_t before = at > 0 ? row_of(sorted[at - 1]) : nowhere;
    Key key = at + lane < num_sorted ? sorted[at + lane] : ~Key{0};
    const std::uint32_t row = __shfl_sync(all_lanes, row_of(key), 0);
    if (row == nowhere || row == before) continue;
    Vector<T, n> sum = load<n>(dtable + row * size);
    for (;;) {
      const int count = __popc(__ballot_sync(all_lanes, row_of(key) == row));  // they are the first lanes'
      int j = 0;
      for (; j + 8 <= count; j += 8) add_rows_of<8>(dx, size, key, j, sum);
      if (count & 4) add_rows_of<4>(dx, size, key, j, sum), j += 4;
      if (count & 2) add_rows_of<2>(dx, size, key, j, sum), j += 2;
      if (count & 1) add_rows_of<1>(dx, size, key, j, sum);
      if (count < warp_size) break;
      at += warp_size;
      key = at + lane < num_sorted ? sorted[at + lane] : ~Key{0};
    }
    if (writes) store<n>(dtable + row * size, sum);
  }
}

/// The piece's positions, grouped: as many keys as whole tiles have.
const Key* sort(const CudaStream& stream, const std::int32_t* tokens, std::int64_t num, const Rows& rows,
                std::int64_t num_keys) {
  Key* const tiles = stream.workspace<Key>(2 * piece);
  const std::int64_t num_tiles = num_keys / tile;
  launch(stream, sort_tiles, static_cast<unsigned>(num_tiles), sorters, 0, tokens, num, rows, tiles);
  if (num_tiles == 1) return tiles;
  launch(stream, merge_tiles, static_cast<unsigned>(num_keys / threads), threads, 0, tiles, num_tiles, tiles + piece);
  return tiles + piece;
}

}  // namespace

void embedding_backward(const Stream& stream, const Tensor& tokens_M, const Tensor& dx_MD, const Tensor& dtable_VD,
                        const Cuts& cuts, const VocabularyRange& range) {
  const Span span(stream.timeline(), Work::embedding, "embedding_backward");
  const std::int64_t num = dx_MD.dim(0), size = dx_MD.dim(1), rows = dtable_VD.dim(0);
  FOURMI_CHECK(tokens_M.num_elements() == num && dtable_VD.dim(1) == size, "tokens {}, dx {}, dtable {}",
               to_string(tokens_M.shape), to_string(dx_MD.shape), to_string(dtable_VD.shape));
  FOURMI_CHECK(range.first >= 0 && (range.size > 0 || range.first == 0), "rows from {} of a vocabulary of {}",
               range.first, range.size);
  FOURMI_CHECK(cuts.rows == 0 && dtable_VD.dtype != DType::fx128, "partials of {} rows into {}: mode layout on a GPU",
               cuts.rows, name_of(dtable_VD.dtype));
  const Rows held{range.first, rows, range.size > 0 ? range.size : rows};
  visit_float(dx_MD.dtype, "embedding", [&]<class X>(std::type_identity<X>) {
    using T = Accumulator<X>;
    constexpr int n = vector_length<X>;
    const auto* const tokens = pointer<std::int32_t>(tokens_M);
    const X* const dx = pointer<X>(dx_MD);
    T* const dtable = pointer<T>(dtable_VD);
    if (size == 0) return;
    const bool whole = is_vector_aligned<n>(dx, size) && is_vector_aligned<n>(dtable, size);
    const std::int64_t parts = ceil_div(size, warp_size * (whole ? n : 1));
    const std::int64_t most = std::clamp<std::int64_t>(64 * on(stream).card().num_multiprocessors / parts, 1, 65535);
    for (std::int64_t first = 0; first < num; first += piece) {  // one after another: ascending too
      const std::int64_t count = std::min(piece, num - first), num_keys = ceil_div(count, tile) * tile;
      const Key* const sorted = sort(on(stream), tokens + first, count, held, num_keys);
      // Blocks come in the order of rows, which for most tokenizers begins with the tokens that are most frequent; a
      // warp has few keys, so that a token of many positions delays no others.
      const dim3 blocks(static_cast<unsigned>(parts), num_blocks(count, num_warps, most));
      launch(on(stream), whole ? add_rows<n, X> : add_rows<1, X>, blocks, threads, 0, sorted, num_keys, count,
             dx + first * size, dtable, size);
    }
  });
}

}  // namespace fourmi::cuda
