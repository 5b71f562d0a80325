// Rows on their way to other ranks. Bound by memory: a row is read once and written once for each rank that it goes to;
// records are a few words a token.
#include "kernels/cuda/operations.h"
#include "kernels/cuda/row_threads.h"
#include "kernels/ops/dispatch_checks.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int each = 4;  // vectors in flight

template <class X>
__global__ void __launch_bounds__(RowThreads::threads)
    spread(const X* __restrict__ rows, const std::int32_t* __restrict__ row_of, int most, X* __restrict__ copies,
           RowThreads r) {
  const std::int64_t row = r.row();
  if (row >= r.num_rows) return;
  const X* const from = rows + row * r.num_vectors;
  X held[each];
#pragma unroll
  for (int i = 0; i < each; ++i)
    if (r.vector(i) < r.num_vectors) held[i] = from[r.vector(i)];
  for (int c = 0; c < most; ++c) {
    const std::int32_t place = row_of[row * most + c];
    if (place < 0) return;
    X* const to = copies + place * std::int64_t{r.num_vectors};
#pragma unroll
    for (int i = 0; i < each; ++i)
      if (r.vector(i) < r.num_vectors) to[r.vector(i)] = held[i];
  }
}

template <class X>
void spread_vectors(const Stream& stream, const Tensor& rows_T, std::int64_t row_bytes, const Tensor& row_TC,
                    const Tensor& copies_S) {
  const RowThreads r = row_threads(row_TC.dim(0), row_bytes / static_cast<std::int64_t>(sizeof(X)), each);
  launch(on(stream), spread<X>, r.blocks(), r.threads, 0, reinterpret_cast<const X*>(bytes(rows_T)),
         pointer<std::int32_t>(row_TC), static_cast<int>(row_TC.dim(1)), reinterpret_cast<X*>(bytes(copies_S)), r);
}

constexpr int threads = 256;

/// A thread a choice. W: a weight as a word of its size.
template <class W>
__global__ void __launch_bounds__(threads) pack(const std::int32_t* __restrict__ experts, const W* __restrict__ weights,
                                                int K, std::int64_t n, std::byte* __restrict__ records) {
  const std::int64_t i = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  if (i >= n) return;
  const std::int64_t token = i / K, k = i % K;
  std::byte* const record = records + token * K * static_cast<std::int64_t>(sizeof(std::int32_t) + sizeof(W));
  reinterpret_cast<std::int32_t*>(record)[k] = experts[i];
  // Behind an odd number of ids weights of eight bytes are not aligned.
  auto* const words = reinterpret_cast<std::uint32_t*>(record + K * sizeof(std::int32_t) + k * sizeof(W));
#pragma unroll
  for (int w = 0; w < static_cast<int>(sizeof(W) / 4); ++w)
    words[w] = reinterpret_cast<const std::uint32_t*>(weights + i)[w];
}

template <class W>
__global__ void __launch_bounds__(threads)
    unpack(const std::byte* __restrict__ records, std::int32_t first, std::int32_t num_local, int K, std::int64_t n,
           std::int32_t* __restrict__ experts, W* __restrict__ weights) {
  const std::int64_t i = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  if (i >= n) return;
  const std::int64_t token = i / K, k = i % K;
  const std::byte* const record = records + token * K * static_cast<std::int64_t>(sizeof(std::int32_t) + sizeof(W));
  const std::int32_t id = reinterpret_cast<const std::int32_t*>(record)[k];
  const bool local = id >= first && id < first + num_local;
  experts[i] = local ? id - first : -1;
  const auto* const words = reinterpret_cast<const std::uint32_t*>(record + K * sizeof(std::int32_t) + k * sizeof(W));
#pragma unroll
  for (int w = 0; w < static_cast<int>(sizeof(W) / 4); ++w)
    reinterpret_cast<std::uint32_t*>(weights + i)[w] = local ? words[w] : 0;
}

unsigned blocks_for(std::int64_t n) {
  return static_cast<unsigned>(ceil_div(n, threads));
}

}  // namespace

void spread_rows(const Stream& stream, const Tensor& rows_T, std::int64_t row_bytes, const Tensor& row_TC,
                 const Tensor& copies_S) {
  const std::int64_t num_rows = row_TC.dim(0);
  check_spread(rows_T, row_bytes, row_TC);
  if (num_rows == 0 || row_bytes == 0) return;
  visit_width(reinterpret_cast<std::uintptr_t>(rows_T.data) | reinterpret_cast<std::uintptr_t>(copies_S.data) |
                  static_cast<std::uintptr_t>(row_bytes),
              [&]<class X>(std::type_identity<X>) { spread_vectors<X>(stream, rows_T, row_bytes, row_TC, copies_S); });
}

void pack_records(const Stream& stream, const Tensor& experts_TK, const Tensor& weights_TK, const Tensor& records) {
  check_records(records, experts_TK, weights_TK);
  const std::int64_t n = experts_TK.num_elements();
  if (n == 0) return;
  visit_accumulator(weights_TK.dtype, "pack_records", [&]<class W>(std::type_identity<W>) {
    launch(on(stream), pack<W>, blocks_for(n), threads, 0, pointer<std::int32_t>(experts_TK), pointer<W>(weights_TK),
           static_cast<int>(experts_TK.dim(1)), n, bytes(records));
  });
}

void unpack_records(const Stream& stream, const Tensor& records, std::int64_t first, std::int64_t num_local,
                    const Tensor& experts_TK, const Tensor& weights_TK) {
  check_records(records, experts_TK, weights_TK);
  const std::int64_t n = experts_TK.num_elements();
  if (n == 0) return;
  visit_accumulator(weights_TK.dtype, "unpack_records", [&]<class W>(std::type_identity<W>) {
    launch(on(stream), unpack<W>, blocks_for(n), threads, 0, bytes(records), static_cast<std::int32_t>(first),
           static_cast<std::int32_t>(num_local), static_cast<int>(experts_TK.dim(1)), n,
           pointer<std::int32_t>(experts_TK), pointer<W>(weights_TK));
  });
}

}  // namespace fourmi::cuda
