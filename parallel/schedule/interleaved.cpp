#include <algorithm>

#include "parallel/schedule/generators.h"

namespace fourmi::schedules {

Schedule interleaved(int num_ranks, int chunks, int num_micro_batches, bool paired) {
  std::vector<StagePlace> route;
  for (int c = 0; c < chunks; ++c)
    for (int r = 0; r < num_ranks; ++r) route.push_back({r, c});
  Schedule s = empty("interleaved", num_ranks, chunks, num_micro_batches, {route});
  const int total = num_micro_batches * chunks, group = num_ranks * chunks;
  // The k-th forward: groups of P micro-batches go through chunk 0, then through chunk 1, ...; the k-th backward: from
  // the last chunk.
  const auto forward = [&](int k) { return Pass{k % group / num_ranks, k / group * num_ranks + k % num_ranks}; };
  const auto backward = [&](int k) { return Pass{chunks - 1 - forward(k).chunk, forward(k).micro_batch}; };
  for (int r = 0; r < num_ranks; ++r) {
    auto& list = s.actions[static_cast<std::size_t>(r)];
    // The last rank's k-th backward may be of the forward of its turn: with one forward more the halves of a turn need
    // nothing of one another. On all ranks, so that neighbours stay two forwards apart: an output's way to the next
    // rank and a gradient's way back take two turns.
    const int least = 2 * (num_ranks - 1 - r) + (chunks - 1) * num_ranks + paired;
    const int ahead = std::min(!paired && num_micro_batches == num_ranks ? total : least, total);
    for (int k = 0; k < ahead; ++k) list.push_back({Verb::forward, forward(k), {}});
    for (int k = 0; k < total; ++k) {
      const int f = k + ahead;
      if (paired && f < total) {
        list.push_back({Verb::pair, forward(f), backward(k)});
        continue;
      }
      if (f < total) list.push_back({Verb::forward, forward(f), {}});
      list.push_back({Verb::backward, backward(k), {}});
    }
  }
  return s;
}

}  // namespace fourmi::schedules
