// Rows of tokens in expert order. Bound by memory: each row is read and written once, whatever its bytes are; a token
// that several experts have is read again from L2 if all tokens fit there.
#include "kernels/cuda/operations.h"
#include "kernels/cuda/row_threads.h"
#include "kernels/ops/permute.h"

namespace fourmi::cuda {
namespace {

constexpr int each = 4;  // vectors in flight

template <class X>
__global__ void __launch_bounds__(RowThreads::threads)
    gather(const X* __restrict__ x, const std::int32_t* __restrict__ row_token, X* __restrict__ rows, RowThreads r) {
  const std::int64_t row = r.row();
  if (row >= r.num_rows) return;
  const X* const from = x + row_token[row] * std::int64_t{r.num_vectors};
  X* const to = rows + row * r.num_vectors;
  X held[each];
#pragma unroll
  for (int i = 0; i < each; ++i)
    if (r.vector(i) < r.num_vectors) held[i] = from[r.vector(i)];
#pragma unroll
  for (int i = 0; i < each; ++i)
    if (r.vector(i) < r.num_vectors) to[r.vector(i)] = held[i];
}

/// By vectors of X.
template <class X>
void gather_rows(const Stream& stream, const Tensor& x_MD, const Tensor& row_token_R, const Tensor& rows_RD,
                 std::int64_t row_bytes) {
  const RowThreads r = row_threads(rows_RD.dim(0), row_bytes / static_cast<std::int64_t>(sizeof(X)), each);
  launch(on(stream), gather<X>, r.blocks(), r.threads, 0, reinterpret_cast<const X*>(bytes(x_MD)),
         pointer<std::int32_t>(row_token_R), reinterpret_cast<X*>(bytes(rows_RD)), r);
}

}  // namespace

void permute_forward(const Stream& stream, const Tensor& x_MD, const Tensor& row_token_R, const Tensor& rows_RD) {
  const Span span(stream.timeline(), Work::dispatch, "permute_forward");
  const std::int64_t num_rows = rows_RD.dim(0), size = x_MD.dim(1);
  FOURMI_CHECK(rows_RD.dtype == x_MD.dtype && rows_RD.dim(1) == size && row_token_R.num_elements() >= num_rows,
               "x {} {}, row_token {}, rows {} {}", name_of(x_MD.dtype), to_string(x_MD.shape),
               to_string(row_token_R.shape), name_of(rows_RD.dtype), to_string(rows_RD.shape));
  const std::int64_t row_bytes = bytes_of(x_MD.dtype, {size});  // with its scales
  if (num_rows == 0 || row_bytes == 0) return;
  visit_width(reinterpret_cast<std::uintptr_t>(x_MD.data) | reinterpret_cast<std::uintptr_t>(rows_RD.data) |
                  static_cast<std::uintptr_t>(row_bytes),
              [&]<class X>(std::type_identity<X>) { gather_rows<X>(stream, x_MD, row_token_R, rows_RD, row_bytes); });
}

}  // namespace fourmi::cuda
