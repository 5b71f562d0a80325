// Exact, order-free reductions over any group, on top of its moves.
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/runtime/error.h"
#include "parallel/group.h"

namespace fourmi {
namespace {

double max_nan(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  if (a == 0 && b == 0) return a + b;  // -0 only if both are
  return a > b ? a : b;
}

template <class T, class Fold>
void fold_rows(const std::byte* rows, int num_rows, std::size_t n, T* out, Fold fold) {
  std::memcpy(out, rows, n * sizeof(T));
  for (int r = 1; r < num_rows; ++r) {
    const T* row = reinterpret_cast<const T*>(rows) + static_cast<std::size_t>(r) * n;
    for (std::size_t i = 0; i < n; ++i) out[i] = fold(out[i], row[i]);
  }
}

}  // namespace

template <class T, class Fold>
void Group::reduce(std::span<T> values, Fold fold) {
  const std::size_t n = values.size(), members = static_cast<std::size_t>(size_);
  if (size_ == 1 || n == 0) return;
  if (std::ssize(std::as_bytes(values)) <= one_round_bytes) {
    scratch_.resize(std::max(scratch_.size(), n * members * sizeof(T)));
    const std::span<std::byte> rows(scratch_.data(), n * members * sizeof(T));
    all_gather(std::as_bytes(values), rows);
    fold_rows(rows.data(), size_, n, values.data(), fold);
    return;
  }
  const std::span<std::size_t> counts = this->counts(2);
  std::size_t begin = 0;
  for (std::size_t r = 0; r < members; ++r) {
    counts[r] = (n / members + (r < n % members)) * sizeof(T);
    if (r < static_cast<std::size_t>(rank_)) begin += counts[r] / sizeof(T);
  }
  const std::size_t mine = counts[static_cast<std::size_t>(rank_)];
  scratch_.resize(std::max(scratch_.size(), mine * members));
  const std::span<std::byte> rows(scratch_.data(), mine * members);
  all_to_all(std::as_bytes(values), counts, rows, equal_counts(mine));
  const std::span<T> piece = values.subspan(begin, mine / sizeof(T));
  if (!piece.empty()) fold_rows(rows.data(), size_, piece.size(), piece.data(), fold);
  all_gather_v(std::as_bytes(piece), std::as_writable_bytes(values), counts);
}

void Group::all_max(std::span<double> values) {
  const Named named(*this, Call::all_max);
  for (double& v : values) v = max_nan(v, v);  // one NaN for all, whatever its payload was
  reduce(values, max_nan);
}

void Group::all_max(std::span<std::int64_t> values) {
  const Named named(*this, Call::all_max);
  reduce(values, [](std::int64_t a, std::int64_t b) { return a > b ? a : b; });
}

void Group::all_sum(std::span<std::int64_t> values) {
  const Named named(*this, Call::all_sum);
  reduce(values, [](std::int64_t a, std::int64_t b) {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  });
}

void Group::all_sum(std::span<int128> values) {
  const Named named(*this, Call::all_sum);
  reduce(values,
         [](int128 a, int128 b) { return static_cast<int128>(static_cast<uint128>(a) + static_cast<uint128>(b)); });
}

}  // namespace fourmi
