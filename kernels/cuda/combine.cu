// A token's sum over its rows: combine forward, and permute backward. Bound by memory: each row is read once, residuals
// and addends too, tokens are written once. A thread has one vector of a token and its chain over the choices, with
// several rows in flight; bits are the CPU's.
#include "kernels/cuda/addend.h"
#include "kernels/cuda/operations.h"
#include "kernels/numerics/math.h"
#include "kernels/ops/permute.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int ahead = 4;  // rows in flight

/// weights: null for 1. n: of T, one vector or one value.
template <class T, class Y, int n>
__global__ void __launch_bounds__(RowThreads::threads)
    sum_rows(const T* __restrict__ rows, const Accumulator<T>* __restrict__ weights,
             const std::int32_t* __restrict__ row_of, int num_choices, Addend first, Addend second, Y* y,
             RowThreads r) {
  using A = Accumulator<T>;
  const std::int64_t token = r.row(), size = std::int64_t{r.num_vectors} * n;
  const int vector = r.vector(0);
  if (token >= r.num_rows || vector >= r.num_vectors) return;
  const std::int64_t column = std::int64_t{vector} * n;
  row_of += token * num_choices;
  A sum[n];
#pragma unroll
  for (int i = 0; i < n; ++i) sum[i] = 0;
  for (int k = 0; k < num_choices; k += ahead) {
    std::int32_t at[ahead];
    A weight[ahead];
    Vector<T, n> row[ahead];
#pragma unroll
    for (int j = 0; j < ahead; ++j) {
      const bool here = k + j < num_choices;
      at[j] = here ? row_of[k + j] : -1;
      weight[j] = here && weights != nullptr ? weights[token * num_choices + k + j] : A{1};
    }
#pragma unroll
    for (int j = 0; j < ahead; ++j) row[j] = at[j] >= 0 ? load<n>(rows + at[j] * size + column) : Vector<T, n>{};
#pragma unroll
    for (int j = 0; j < ahead; ++j)
      if (at[j] >= 0)
#pragma unroll
        for (int i = 0; i < n; ++i) sum[i] = fma(weight[j], widen<A>(row[j].value[i]), sum[i]);
  }
  const std::int64_t at = token * size + column;
  add<T>(first, at, sum);
  add<T>(second, at, sum);
  store_values(y + at, sum);
}

void check_addend(const Tensor& addend, const Tensor& rows_RD, const Tensor& y_MD) {
  FOURMI_CHECK(!addend || (addend.num_elements() == y_MD.num_elements() &&
                           (addend.dtype == rows_RD.dtype || addend.dtype == accumulate_dtype(rows_RD.dtype))),
               "{} {} added to {} {}", name_of(addend.dtype), to_string(addend.shape), name_of(y_MD.dtype),
               to_string(y_MD.shape));
}

void check_sum(const Tensor& rows_RD, const Tensor& row_of_MK, const Tensor& y_MD, const ExpertLeaves& leaves) {
  FOURMI_CHECK(rows_RD.dim(1) == y_MD.dim(1) && row_of_MK.dim(0) == y_MD.dim(0) &&
                   (y_MD.dtype == rows_RD.dtype || y_MD.dtype == accumulate_dtype(rows_RD.dtype)),
               "rows {} {}, row_of {}, tokens {} {}", name_of(rows_RD.dtype), to_string(rows_RD.shape),
               to_string(row_of_MK.shape), name_of(y_MD.dtype), to_string(y_MD.shape));
  FOURMI_CHECK(leaves.leaves == 1, "mode layout on a GPU");
}

template <class T, class Y>
void launch_sum(const Stream& stream, const Tensor& rows_RD, const Tensor& weights_MK, const Tensor& row_of_MK,
                const Tensor& y_MD, const Tensor& first, const Tensor& second) {
  using A = Accumulator<T>;
  const std::int64_t size = y_MD.dim(1);
  const T* const rows = pointer<T>(rows_RD);
  Y* const y = pointer<Y>(y_MD);
  const auto run = [&]<int n>(std::integral_constant<int, n>) {
    const RowThreads r = row_threads(y_MD.dim(0), size / n, 1);
    launch(on(stream), sum_rows<T, Y, n>, r.blocks(), r.threads, 0, rows, pointer_or_null<A>(weights_MK),
           pointer<std::int32_t>(row_of_MK), static_cast<int>(row_of_MK.dim(1)), addend_of<T>(first),
           addend_of<T>(second), y, r);
  };
  if (has_whole_vectors(rows, size) && has_whole_vectors(y, size) && has_whole_vectors_of<T>(first, size) &&
      has_whole_vectors_of<T>(second, size))
    run(std::integral_constant<int, vector_length<T>>{});
  else
    run(std::integral_constant<int, 1>{});
}

void sum(const Stream& stream, const char* what, const Tensor& rows_RD, const Tensor& weights_MK,
         const Tensor& row_of_MK, const Tensor& y_MD, const Tensor& first, const Tensor& second) {
  if (y_MD.num_elements() == 0) return;
  visit_float(rows_RD.dtype, what, [&]<class T>(std::type_identity<T>) {
    if (y_MD.dtype == rows_RD.dtype)
      launch_sum<T, T>(stream, rows_RD, weights_MK, row_of_MK, y_MD, first, second);
    else
      launch_sum<T, Accumulator<T>>(stream, rows_RD, weights_MK, row_of_MK, y_MD, first, second);
  });
}

}  // namespace

void permute_backward(const Stream& stream, const Tensor& drows_RD, const Tensor& row_of_MK, const Tensor& dx_MD,
                      const Tensor& first_MD, const Tensor& second_MD, const ExpertLeaves& leaves) {
  const Span span(stream.timeline(), Work::dispatch, "permute_backward");
  check_sum(drows_RD, row_of_MK, dx_MD, leaves);
  check_addend(first_MD, drows_RD, dx_MD);
  check_addend(second_MD, drows_RD, dx_MD);
  sum(stream, "permute_backward", drows_RD, {}, row_of_MK, dx_MD, first_MD, second_MD);
}

void combine_forward(const Stream& stream, const Tensor& rows_RD, const Tensor& weights_MK, const Tensor& row_of_MK,
                     const Tensor& y_MD, const Tensor& residual_MD, const ExpertLeaves& leaves) {
  const Span span(stream.timeline(), Work::combine, "combine_forward");
  check_sum(rows_RD, row_of_MK, y_MD, leaves);
  check_addend(residual_MD, rows_RD, y_MD);
  FOURMI_CHECK(weights_MK.num_elements() == row_of_MK.num_elements(), "weights {}, row_of {}",
               to_string(weights_MK.shape), to_string(row_of_MK.shape));
  sum(stream, "combine_forward", rows_RD, weights_MK, row_of_MK, y_MD, residual_MD, {});
}

}  // namespace fourmi::cuda
