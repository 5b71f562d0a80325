// A token's sum over what ranks have of it: the perfect binary tree over all ranks, of which few are there. Bound by
// memory: copies and addends are read once, tokens written once. A thread has one vector of a token, asks for four of
// the copies at a time, and goes through them in ascending order; where two neighbours meet in the tree is the highest
// bit in which their ranks differ, and what is waiting below that place is complete: waiting subtrees lie in shared
// memory, their places in a register. Bits are the CPU's.
#include <bit>

#include "kernels/cuda/addend.h"
#include "kernels/cuda/dynamic_shared.h"
#include "kernels/cuda/operations.h"
#include "kernels/numerics/math.h"
#include "kernels/ops/dispatch_checks.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = RowThreads::threads;
constexpr int ahead = 4;                                             // copies in flight
constexpr int most_levels = 10;                                      // of the tree: 1,024 ranks
constexpr int level_bits = 5;                                        // of a place on the stack
static_assert(most_levels * threads * 8 * 4 <= shared_of_any_card);  // 8 of bf16, in f32

/// Sums of subtrees that wait for what is beside them; a thread's own, in shared memory, by vectors of 16 bytes that
/// lie beside the other threads'.
template <class A, int n>
class Stack {
 public:
  __device__ Stack() : top_(reinterpret_cast<Part*>(dynamic_shared()) + threadIdx.x) {}

  /// `place`: the level at which `sum` and what comes next meet.
  __device__ void push(const A (&sum)[n], unsigned place) {
#pragma unroll
    for (int p = 0; p < parts; ++p) {
      Part part;
#pragma unroll
      for (int i = 0; i < width; ++i) part.value[i] = sum[p * width + i];
      top_[p * threads] = part;
    }
    top_ += parts * threads;
    places_ = places_ << level_bits | (place + 1);
  }
  /// sum = what waits + sum, as long as it waits for a place below this one.
  __device__ void join(A (&sum)[n], unsigned place) {
    while ((static_cast<unsigned>(places_) & ((1u << level_bits) - 1)) - 1 < place) {  // nothing: 0 - 1
      top_ -= parts * threads;
#pragma unroll
      for (int p = 0; p < parts; ++p) {
        const Part part = top_[p * threads];
#pragma unroll
        for (int i = 0; i < width; ++i) sum[p * width + i] = part.value[i] + sum[p * width + i];
      }
      places_ >>= level_bits;
    }
  }

 private:
  static constexpr int width = n < vector_length<A> ? n : vector_length<A>, parts = n / width;
  using Part = Vector<A, width>;
  Part* top_;
  std::uint64_t places_ = 0;  // and one, the last in the lowest bits
};

/// Where a token's copies are, from the first on; behind the last one ranks are negative.
struct Copies {
  const std::int32_t *rank_of, *row_of;
  int most;
};

/// sum = the tree over this thread's part of the copies.
template <class A, int n>
__device__ void sum_tree(const A* __restrict__ copies, const Copies& where, std::int64_t token, std::int64_t size,
                         A (&sum)[n]) {
  Stack<A, n> waiting;
  const std::int32_t *const rank_of = where.rank_of + token * where.most, *const row_of =
                                                                              where.row_of + token * where.most;
  std::int32_t before = -1;
  for (int first = 0; first < where.most; first += ahead) {
    std::int32_t rank[ahead], row[ahead];
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      const bool there = first + i < where.most;
      rank[i] = there ? rank_of[first + i] : -1;
      row[i] = there ? row_of[first + i] : -1;
    }
    A copy[ahead][n];
#pragma unroll
    for (int i = 0; i < ahead; ++i)
      if (rank[i] >= 0) load_values(copies + row[i] * size, copy[i]);
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      if (rank[i] < 0) break;
      if (before >= 0) {
        const auto place = static_cast<unsigned>(31 - __clz(rank[i] ^ before));
        waiting.join(sum, place);
        waiting.push(sum, place);
      }
      before = rank[i];
#pragma unroll
      for (int k = 0; k < n; ++k) sum[k] = A{0} + copy[i][k];
    }
    if (rank[ahead - 1] < 0) break;
  }
  waiting.join(sum, most_levels);
}

/// n: of A, what a thread has of a row. where.rank_of null: one copy a token, in the tokens' order.
template <class T, class A, int n>
__global__ void __launch_bounds__(threads, 3)
    sum_rows(const A* __restrict__ copies, const Copies where, const Addend first, const Addend second, T* y,
             const RowThreads r) {
  const std::int64_t token = r.row(), size = std::int64_t{r.num_vectors} * n;
  const int vector = r.vector(0);
  if (token >= r.num_rows || vector >= r.num_vectors) return;
  const std::int64_t column = std::int64_t{vector} * n, at = token * size + column;
  A sum[n] = {};
  if (where.rank_of == nullptr) {
    load_values(copies + at, sum);
#pragma unroll
    for (int i = 0; i < n; ++i) sum[i] = A{0} + sum[i];
  } else {
    sum_tree(copies + column, where, token, size, sum);
  }
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
  const Copies where{pointer_or_null<std::int32_t>(places.rank_TC), pointer_or_null<std::int32_t>(places.row_TC),
                     places.rank_TC ? static_cast<int>(places.rank_TC.dim(1)) : 1};
  const int most_waiting = std::min(levels, std::max(where.most - 1, 0));
  const auto with = [&]<int n>(std::integral_constant<int, n>) {
    const RowThreads r = row_threads(y_TD.dim(0), size / n, 1);
    launch(on(stream), sum_rows<T, A, n>, r.blocks(), r.threads,
           most_waiting * threads * static_cast<std::int64_t>(sizeof(A)) * n, copies, where, addend_of<T>(first),
           addend_of<T>(second), y, r);
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
