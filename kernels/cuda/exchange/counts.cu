// How many rows go to each rank, and how many come: counted from the experts that tokens chose, told to all ranks by a
// word each (kernels/exchange/counts.h), heard from all, and summed up to the places where rows will lie. A few KB.
#include "kernels/cuda/dynamic_shared.h"
#include "kernels/cuda/exchange/counts.h"
#include "kernels/cuda/exchange/launch_together.h"
#include "kernels/cuda/exchange/wait.h"
#include "kernels/exchange/counts.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256;

/// A block a channel. A token counts once for each rank; its experts ascend.
__global__ void __launch_bounds__(threads) count_tokens(Ends ends, exchange::Tokens tokens, exchange::TokenRun all,
                                                        std::uint64_t announcement, int round, std::int32_t* sent) {
  auto* const counts = reinterpret_cast<int*>(dynamic_shared());  // [P]
  const int P = ends.num_ranks(), C = ends.num_channels(), channel = static_cast<int>(blockIdx.x);
  for (int r = static_cast<int>(threadIdx.x); r < P; r += threads) counts[r] = 0;
  __syncthreads();
  const exchange::TokenRun run = exchange::run_of(channel, C, all.begin, all.end - all.begin);
  for (std::int64_t t = run.begin + threadIdx.x; t < run.end; t += threads)
    for (int k = 0, before = -1; k < tokens.num_choices; ++k) {
      const int rank = tokens.rank_of(t, k);
      if (rank != before) atomicAdd(counts + rank, 1);
      before = rank;
    }
  __syncthreads();
  ThreadAgent agent;
  const bool silent = has_given_up(ends.watch);
  for (int r = static_cast<int>(threadIdx.x); r < P; r += threads) {
    sent[ends.lane(r, channel)] = counts[r];
    if (silent) continue;
    exchange::announce(agent, ends.peers, announcement, r, std::int64_t{round} * C + channel,
                       static_cast<std::uint32_t>(counts[r]));
  }
}

/// One block. A thread waits for some of the counts; then each sums those of its stretch of lanes.
__global__ void __launch_bounds__(threads)
    hear_counts(Ends ends, std::uint64_t announcement, int round, RouteTables route) {
  auto* const sums = reinterpret_cast<int*>(dynamic_shared());  // [threads], then [lanes]
  int* const counts = sums + threads;
  const int me = static_cast<int>(threadIdx.x), n = ends.num_lanes(), C = ends.num_channels();
  ThreadAgent agent;
  Patience patience(ends.watch, Awaited::count);
  for (int i = me; i < n; i += threads) {
    const int from = i / C, at = round * C + i % C;
    std::int64_t count = -1;
    while ((count = exchange::heard(agent, ends.peers, announcement, from, at)) < 0) {
      const auto report = [&](GaveUp& r) {
        const Flag flag{
            Awaited::count, exchange::Way::dispatch, from, i % C,
            ends.peers.at<std::uint64_t>(ends.peers.rank, ends.peers.window.counts(announcement, from)) + at};
        flag.say(r, exchange::announced(announcement, 0));
      };
      if (patience.is_over(report)) {
        count = 0;  // nothing that follows is good
        break;
      }
      pause();
    }
    patience.restart();
    counts[i] = static_cast<int>(count);
    route.received[i] = counts[i];
  }
  __syncthreads();
  const int each = (n + threads - 1) / threads, begin = min(n, me * each), end = min(n, begin + each);
  int mine = 0;
  for (int i = begin; i < end; ++i) mine += counts[i];
  sums[me] = mine;
  __syncthreads();
  int before = 0;
  for (int i = 0; i < me; ++i) before += sums[i];
  for (int i = begin; i < end; ++i) {
    route.first[i] = before;
    before += counts[i];
  }
  if (me == threads - 1) route.first[n] = before;
}

}  // namespace

void count_rows(const CudaStream& stream, const Ends& ends, const exchange::Tokens& tokens, exchange::TokenRun run,
                std::uint64_t announcement, int round, const RouteTables& route) {
  launch(stream, count_tokens, static_cast<unsigned>(ends.num_channels()), threads, ends.num_ranks() * 4, ends, tokens,
         run, announcement, round, route.sent);
  launch(stream, hear_counts, 1, threads, (threads + ends.num_lanes()) * 4, ends, announcement, round, route);
}

}  // namespace fourmi::cuda
