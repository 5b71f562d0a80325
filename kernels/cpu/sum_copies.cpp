#include <algorithm>
#include <bit>

#include "kernels/numerics/lanes.h"
#include "kernels/ops/dispatch_checks.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

constexpr std::int64_t chunk = 256;  // columns at a time: a row of sums a level stays in the first-level cache
constexpr int most_levels = 20;      // of the tree: ranks up to 2^20

/// Of one token. copy(c): its copy number c, from the column on.
template <class A, class Copy>
struct Copies {
  const Copy& copy;
  const std::int32_t* ranks;
  A (*level)[chunk];  // one row of sums for each level below

  /// out = the subtree over ranks [low, low + width), of which copies [begin, end) exist, at least one. An absent leaf
  /// is a zero; it changes nothing, because a leaf is 0 + copy and so never -0.
  void sum(std::int64_t begin, std::int64_t end, std::int32_t low, std::int32_t width, std::int64_t n, int depth,
           A* out) const {
    if (end - begin == 1) {
      const A* leaf = copy(begin);
      for (std::int64_t d = 0; d < n; ++d) out[d] = A{0} + leaf[d];
      return;
    }
    const std::int32_t half = width / 2;
    std::int64_t middle = begin;
    while (middle < end && ranks[middle] < low + half) ++middle;
    if (middle == begin) return sum(begin, end, low + half, half, n, depth, out);
    if (middle == end) return sum(begin, end, low, half, n, depth, out);
    sum(begin, middle, low, half, n, depth + 1, out);
    A* right = level[depth];
    sum(middle, end, low + half, half, n, depth + 1, right);
    for (std::int64_t d = 0; d < n; ++d) out[d] += right[d];
  }
};

/// Elements [begin, begin + n) of an addend of T or A, where there is one, are added to sum.
template <class T, class A>
void add_part(const Tensor& x, std::int64_t begin, std::int64_t n, A* sum) {
  if (!x) return;
  if (x.dtype == dtype_of<T>) {
    const T* part = x.as<T>() + begin;
    for (std::int64_t d = 0; d < n; ++d) sum[d] += widen<A>(part[d]);
  } else {
    const A* part = x.as<A>() + begin;
    for (std::int64_t d = 0; d < n; ++d) sum[d] += part[d];
  }
}

}  // namespace

void sum_copies(const Stream& stream, const CopyPlaces& places, const Tensor& copies_SD, const Tensor& y_TD,
                const Tensor& first_TD, const Tensor& second_TD) {
  FOURMI_DOOR(sum_copies, stream, places, copies_SD, y_TD, first_TD, second_TD);
  const bool routed = bool(places.rank_TC);
  const std::int64_t num_rows = y_TD.dim(0), size = y_TD.dim(1), C = routed ? places.rank_TC.dim(1) : 1;
  check_sum_of_copies(places, copies_SD, y_TD, first_TD, second_TD);
  const auto width = static_cast<std::int32_t>(std::bit_ceil(static_cast<unsigned>(routed ? places.num_ranks : 1)));
  FOURMI_CHECK(width <= (1 << most_levels), "{} ranks", width);
  const std::int32_t* ranks = routed ? places.rank_TC.as<std::int32_t>() : nullptr;
  const std::int32_t* rows = routed ? places.row_TC.as<std::int32_t>() : nullptr;
  visit_float(y_TD.dtype, "sum_copies", [&]<class T>(std::type_identity<T>) {
    using A = Accumulator<T>;
    const A* packed = copies_SD.as<A>();
    T* y = y_TD.as<T>();
    const std::int64_t grain = std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(1, size * C));
    stream.pool().parallel_for(num_rows, grain, [&](std::int64_t begin, std::int64_t end) {
      A sum[chunk], level[most_levels][chunk];
      for (std::int64_t t = begin; t < end; ++t) {
        std::int64_t copies = 0;
        while (routed && copies < C && ranks[t * C + copies] >= 0) ++copies;
        for (std::int64_t column = 0; column < size; column += chunk) {
          const std::int64_t n = std::min(chunk, size - column), place = t * size + column;
          if (routed) {
            const auto copy = [&](std::int64_t c) { return packed + column + rows[t * C + c] * size; };
            const Copies<A, decltype(copy)> of_row{copy, ranks + t * C, level};
            of_row.sum(0, copies, 0, width, n, 0, sum);
          } else {
            for (std::int64_t d = 0; d < n; ++d) sum[d] = A{0} + packed[place + d];
          }
          add_part<T>(first_TD, place, n, sum);
          add_part<T>(second_TD, place, n, sum);
          for (std::int64_t d = 0; d < n; ++d) y[place + d] = narrow<T>(sum[d]);
        }
      }
    });
  });
}

void sum_copies_of_token(const TokenCopies& token, std::int64_t t, const Tensor& y_TD, const Tensor& first_TD,
                         const Tensor& second_TD) {
  const std::int64_t size = y_TD.dim(1);
  const auto width = static_cast<std::int32_t>(std::bit_ceil(static_cast<unsigned>(token.num_ranks)));
  visit_float(y_TD.dtype, "sum_copies", [&]<class T>(std::type_identity<T>) {
    using A = Accumulator<T>;
    A sum[chunk], level[most_levels][chunk];
    for (std::int64_t column = 0; column < size; column += chunk) {
      const std::int64_t n = std::min(chunk, size - column), place = t * size + column;
      const auto copy = [&](std::int64_t c) { return reinterpret_cast<const A*>(token.copies[c]) + column; };
      const Copies<A, decltype(copy)> of_row{copy, token.ranks, level};
      of_row.sum(0, token.n, 0, width, n, 0, sum);
      add_part<T>(first_TD, place, n, sum);
      add_part<T>(second_TD, place, n, sum);
      for (std::int64_t d = 0; d < n; ++d) y_TD.as<T>()[place + d] = narrow<T>(sum[d]);
    }
  });
}

}  // namespace fourmi
