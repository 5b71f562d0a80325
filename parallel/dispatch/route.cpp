#include "parallel/dispatch/route.h"

#include <numeric>

namespace fourmi {

std::int64_t Route::total(std::span<const std::size_t> counts) {
  return static_cast<std::int64_t>(std::accumulate(counts.begin(), counts.end(), std::size_t{0}));
}

void Route::reserve(std::size_t num_rounds, std::size_t num_ranks) {
  row_begin.reserve(num_rounds + 1);
  sent.reserve(num_rounds * num_ranks);
  received.reserve(num_rounds * num_ranks);
  next_.reserve(num_ranks);
}

void Route::reset(int num_rounds) {
  const auto n = static_cast<std::size_t>(num_rounds);
  row_begin.assign(n + 1, 0);
  sent.assign(n * static_cast<std::size_t>(size), 0);
  received.assign(n * static_cast<std::size_t>(size), 0);
}

void Route::place_copies() {
  const std::int64_t C = rank_RC.dim(1);
  const auto* ranks = rank_RC.as<std::int32_t>();
  auto* rows = row_RC.as<std::int32_t>();
  const auto num_rounds = static_cast<int>(row_begin.size()) - 1;
  for (int q = 0; q < num_rounds; ++q) {
    const std::span count = std::span(sent).subspan(static_cast<std::size_t>(q * size), static_cast<std::size_t>(size));
    const std::int64_t first = begin(q) * C, end = begin(q + 1) * C;
    for (std::int64_t i = first; i < end; ++i)
      if (ranks[i] >= 0) ++count[static_cast<std::size_t>(ranks[i])];
    next_.assign(count.size(), 0);
    std::exclusive_scan(count.begin(), count.end(), next_.begin(), std::size_t{0});
    for (std::int64_t i = first; i < end; ++i)
      rows[i] = ranks[i] >= 0 ? static_cast<std::int32_t>(next_[static_cast<std::size_t>(ranks[i])]++) : -1;
  }
}

}  // namespace fourmi
