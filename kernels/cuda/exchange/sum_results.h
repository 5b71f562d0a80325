// What came back for the tokens of a channel, one after another, summed by several warps of a block: all walk through
// all tokens, and each has some of the columns. It is exchange::ReceiveResults (kernels/exchange/lanes.h) with a ring a
// lane: the rings that a token's copies come by are looked at together. For .cu files.
#pragma once

#include "kernels/cuda/addend.h"
#include "kernels/cuda/copies_tree.h"
#include "kernels/cuda/exchange/ends.h"
#include "kernels/cuda/exchange/wait.h"

namespace fourmi::cuda {

/// Where a token's copies are; of each warp, in shared memory.
struct CopiesOfToken {
  const std::byte* rows[warp_size];
  std::int32_t ranks[warp_size];
};

/// What is added to the sums, and where they go. D columns.
template <class T>
struct Outcome {
  Addend first, second;
  T* y;
  int D;
};

/// n values of a copy, which lie in a slot or with this rank.
template <class A, int n>
__device__ void load_copy(const std::byte* row, int column, A (&v)[n]) {
  const A* const from = reinterpret_cast<const A*>(row) + column;
  if constexpr (n == 1) {
    v[0] = *from;
  } else {
    constexpr int width = vector_length<A>;
#pragma unroll
    for (int part = 0; part < n; part += width) {
      const auto x = std::bit_cast<Vector<A, width>>(load_slot(reinterpret_cast<const Vector16*>(from + part)));
#pragma unroll
      for (int i = 0; i < width; ++i) v[part + i] = x.value[i];
    }
  }
}

/// What the warps that sum a channel have in common, in shared memory.
struct TeamWords {
  volatile int left;  ///< not zero: one of them has given up at this token of the run, counted from 1
  int barrier;        ///< where they meet
};

/// The warps that sum a channel: this one's number among them, and what they share. Few members: registers are scarce.
struct SummingTeam {
  int warp, num_warps;
  void* waiting;          ///< [levels][threads] vectors
  CopiesOfToken* tables;  ///< [warps], and behind them the words

  __device__ CopiesOfToken& copies() const { return tables[warp]; }
  __device__ TeamWords& words() const { return *reinterpret_cast<TeamWords*>(tables + num_warps); }
  __device__ int thread() const { return warp * warp_size + static_cast<int>(threadIdx.x) % warp_size; }
  __device__ int num_threads() const { return num_warps * warp_size; }
  __device__ void meet() const { cuda::meet(words().barrier, num_threads()); }
};

/// n: columns of a thread at a time. rows: this rank's own, the channel's first. False: it gave up.
template <class T, int n>
__device__ bool sum_results(const Ends& ends, const exchange::Tokens& tokens, exchange::TokenRun run, int channel,
                            const std::byte* own, const SummingTeam& team, const Outcome<T>& out) {
  using A = Accumulator<T>;
  using exchange::Way;
  constexpr int together = 4;  // copies in flight
  const int lane = static_cast<int>(threadIdx.x) % warp_size, P = ends.num_ranks(), me = ends.peers.rank;
  const std::int64_t row_bytes = std::int64_t{out.D} * static_cast<std::int64_t>(sizeof(A));
  const bool has_ring = lane < P && lane != me;
  exchange::Ring ring;
  exchange::RingReader reader;
  if (has_ring) {
    ring = ends.peers.from(Way::combine, lane, channel);
    reader = {ring, ends.peers.window.shape(Way::combine), ends.read(Way::combine, lane, channel)};
  }
  ThreadAgent agent{team.warp == 0};  // of a ring's head one tells
  Patience patience(ends.watch, Awaited::row);
  for (std::int64_t t = run.begin; t < run.end; ++t) {
    unsigned visited = 0;
    for (int k = lane; k < tokens.num_choices; k += warp_size) visited |= 1u << tokens.rank_of(t, k);
    visited = __reduce_or_sync(all_lanes, visited);
    const bool mine = has_ring && (visited >> lane & 1) != 0;
    while (true) {
      const bool missing = mine && !reader.has_row(agent);
      const unsigned all_missing = __ballot_sync(all_lanes, missing);
      if (all_missing == 0) break;
      int over = 0;
      if (lane == __ffs(static_cast<int>(all_missing)) - 1)
        over = patience.is_over([&](GaveUp& report) {
          Flag{Awaited::row, Way::combine, lane, channel, ring.tail}.say(report, reader.at() + 1);
        });
      if (__any_sync(all_lanes, over)) {
        team.words().left = static_cast<int>(t - run.begin) + 1;
        break;
      }
      pause();
    }
    patience.restart();
    // What the lanes acquired comes before what the others read (warp_agent.h).
    if ((visited >> lane & 1) != 0) {
      const int place = __popc(visited & ((1u << lane) - 1));
      team.copies().rows[place] = lane == me ? own : reader.next();
      team.copies().ranks[place] = lane;
    }
    __syncwarp();
    const int num_copies = __popc(visited);
    const std::int64_t row = t * out.D;
    for (int column = team.thread() * n; column < out.D && team.words().left == 0; column += team.num_threads() * n) {
      CopiesTree<A, n> tree(static_cast<Vector<A, n>*>(team.waiting) + team.thread(), team.num_threads());
      for (int c = 0; c < num_copies; c += together) {
        A copies[together][n];
#pragma unroll
        for (int i = 0; i < together; ++i)
          if (c + i < num_copies) load_copy(team.copies().rows[c + i], column, copies[i]);
#pragma unroll
        for (int i = 0; i < together; ++i)
          if (c + i < num_copies) tree.add(team.copies().ranks[c + i], copies[i]);
      }
      auto& sum = tree.finish();
      add<T>(out.first, row + column, sum);
      add<T>(out.second, row + column, sum);
      store_values(out.y + row + column, sum);
    }
    // Slots may be written again, and the table too, when all warps are through; who gave up comes here as well.
    team.meet();
    // Who is ahead may have given up at the next token by now, and waits for this warp there.
    if (const int left = team.words().left; left != 0 && left <= static_cast<int>(t - run.begin) + 1) return false;
    if (mine) reader.pop(agent);
    if ((visited >> me & 1) != 0) own += row_bytes;
  }
  if (has_ring) {
    reader.flush(agent);
    if (team.warp == 0) ends.read(Way::combine, lane, channel) = reader.at();
  }
  return true;
}

}  // namespace fourmi::cuda
