// A token's sum over what ranks have of it: the perfect binary tree over all ranks, of which few are there. Bound by
// memory: copies and addends are read once, tokens written once. A thread has one vector of a token. It goes through
// the copies in ascending order; where two neighbours meet in the tree is the highest bit in which their ranks differ,
// and what is waiting below that place is complete: waiting subtrees lie in shared memory, their places in a register.
// Bits are the CPU's.
#include <bit>

#include "kernels/cuda/addend.h"
#include "kernels/cuda/dynamic_shared.h"
#include "kernels/cuda/operations.h"
#include "kernels/numerics/math.h"
#include "kernels/ops/dispatch_checks.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int most_levels = 10;  // of the tree: 1,024 ranks
constexpr int level_bits = 5;    // of a place on the stack
static_assert(most_levels * RowThreads::threads * 8 * 4 <= shared_of_any_card);  // 8 of bf16, in f32

/// n: of A, what a thread has of a row. rank_of null: one copy a token, in the tokens' order.
template <class T, class A, int n>
__global__ void __launch_bounds__(RowThreads::threads)
    sum_tree(const A* __restrict__ copies, const std::int32_t* __restrict__ rank_of,
             const std::int32_t* __restrict__ row_of, int most, Addend first, Addend second, T* y, RowThreads r) {
  const std::int64_t token = r.row(), size = std::int64_t{r.num_vectors} * n;
  const int vector = r.vector(0);
  if (token >= r.num_rows || vector >= r.num_vectors) return;
  const std::int64_t column = std::int64_t{vector} * n;
  auto* const waiting = reinterpret_cast<Vector<A, n>*>(dynamic_shared()) + threadIdx.x;
  std::uint64_t places = 0;  // of what waits, the last in the lowest bits
  int depth = 0;
  A sum[n];
  const auto load_copy = [&](std::int64_t row) {
    const Vector<A, n> copy = load<n>(copies + row * size + column);
#pragma unroll
    for (int i = 0; i < n; ++i) sum[i] = A{0} + copy.value[i];
  };
  const auto join = [&] {
    const Vector<A, n> left = waiting[--depth * RowThreads::threads];
#pragma unroll
    for (int i = 0; i < n; ++i) sum[i] = left.value[i] + sum[i];
    places >>= level_bits;
  };
  if (rank_of == nullptr) {
    load_copy(token);
  } else {
    std::int32_t before = rank_of[token * most];
#pragma unroll
    for (int i = 0; i < n; ++i) sum[i] = 0;
    if (before >= 0) load_copy(row_of[token * most]);
    for (int c = 1; c < most && before >= 0; ++c) {
      const std::int32_t rank = rank_of[token * most + c];
      if (rank < 0) break;
      const auto place = static_cast<unsigned>(31 - __clz(rank ^ before));
      while (depth > 0 && (places & ((1u << level_bits) - 1)) < place) join();
      Vector<A, n> left;
#pragma unroll
      for (int i = 0; i < n; ++i) left.value[i] = sum[i];
      waiting[depth++ * RowThreads::threads] = left;
      places = places << level_bits | place;
      load_copy(row_of[token * most + c]);
      before = rank;
    }
    while (depth > 0) join();
  }
  const std::int64_t at = token * size + column;
  add<T>(first, at, sum);
  add<T>(second, at, sum);
  store_values(y + at, sum);
}

template <class T>
void run(const Stream& stream, const CopyPlaces& places, const Tensor& copies_SD, const Tensor& y_TD,
         const Tensor& first, const Tensor& second) {
  using A = Accumulator<T>;
  const std::int64_t size = y_TD.dim(1);
  const A* const copies = pointer<A>(copies_SD);
  T* const y = pointer<T>(y_TD);
  const int levels = std::bit_width(std::bit_ceil(static_cast<unsigned>(places.num_ranks))) - 1;
  FOURMI_CHECK(levels <= most_levels, "{} ranks", places.num_ranks);
  const auto with = [&]<int n>(std::integral_constant<int, n>) {
    const RowThreads r = row_threads(y_TD.dim(0), size / n, 1);
    launch(on(stream), sum_tree<T, A, n>, r.blocks(), r.threads,
           levels * RowThreads::threads * static_cast<std::int64_t>(sizeof(A)) * n, copies,
           pointer_or_null<std::int32_t>(places.rank_TC), pointer_or_null<std::int32_t>(places.row_TC),
           places.rank_TC ? static_cast<int>(places.rank_TC.dim(1)) : 1, addend_of<T>(first), addend_of<T>(second), y,
           r);
  };
  constexpr int n = vector_length<T>;
  if (is_vector_aligned<n>(copies, size) && has_whole_vectors(y, size) && has_whole_vectors_of<T>(first, size) &&
      has_whole_vectors_of<T>(second, size))
    with(std::integral_constant<int, n>{});
  else
    with(std::integral_constant<int, 1>{});
}

}  // namespace

void sum_copies(const Stream& stream, const CopyPlaces& places, const Tensor& copies_SD, const Tensor& y_TD,
                const Tensor& first_TD, const Tensor& second_TD) {
  check_sum_of_copies(places, copies_SD, y_TD, first_TD, second_TD);
  if (y_TD.num_elements() == 0) return;
  visit_float(y_TD.dtype, "sum_copies",
              [&]<class T>(std::type_identity<T>) { run<T>(stream, places, copies_SD, y_TD, first_TD, second_TD); });
}

}  // namespace fourmi::cuda
