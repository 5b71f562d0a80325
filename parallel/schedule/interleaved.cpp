#include <algorithm>

#include "parallel/schedule/generators.h"

namespace fourmi::schedules {

Schedule interleaved(int num_ranks, int chunks, int num_micro_batches) {
  std::vector<StagePlace> route;
  for (int c = 0; c < chunks; ++c)
    for (int r = 0; r < num_ranks; ++r) route.push_back({r, c});
  Schedule s = empty("interleaved", num_ranks, chunks, num_micro_batches, {route});
  const int total = num_micro_batches * chunks, group = num_ranks * chunks;
  // The k-th forward: groups of P micro-batches go through chunk 0, then through chunk 1, ...; the k-th backward: from
  // the last chunk.
  const auto micro_batch = [&](int k) { return k / group * num_ranks + k % num_ranks; };
  const auto chunk = [&](int k) { return k % group / num_ranks; };
  for (int r = 0; r < num_ranks; ++r) {
    auto& list = s.actions[static_cast<std::size_t>(r)];
    const int ahead =
        num_micro_batches == num_ranks ? total : std::min(2 * (num_ranks - 1 - r) + (chunks - 1) * num_ranks, total);
    for (int k = 0; k < ahead; ++k) list.push_back({Verb::forward, {chunk(k), micro_batch(k)}, {}});
    for (int k = 0; k < total; ++k) {
      if (const int f = k + ahead; f < total) list.push_back({Verb::forward, {chunk(f), micro_batch(f)}, {}});
      list.push_back({Verb::backward, {chunks - 1 - chunk(k), micro_batch(k)}, {}});
    }
  }
  return s;
}

}  // namespace fourmi::schedules
