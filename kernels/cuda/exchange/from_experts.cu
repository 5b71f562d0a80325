// What ranks made of the rows that visited them, back to where the tokens are, and there the sum of a token's copies
// and of what is added to it. Persistent: of a channel some warps send, one for each rank, and some sum; of few ranks
// several channels share a block, so that a block has a multiprocessor to itself, however many they are. Bound by the
// link between the cards, or where rows are bf16 and copies f32 by reading those: a copy is read and written once
// where it leaves, and read once where it arrives.
#include <bit>

#include "kernels/cuda/dynamic_shared.h"
#include "kernels/cuda/exchange/from_experts.h"
#include "kernels/cuda/exchange/launch_together.h"
#include "kernels/cuda/exchange/sum_results.h"
#include "kernels/exchange/on_card.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int most_threads = 640;  // 96 registers each

/// Channels of a block: as many as to_experts has in one, so that both take as many multiprocessors (size_on_card.h).
int channels_of_block(int num_ranks) {
  return std::max(1, 8 / num_ranks);
}
/// Warps that sum a channel: as many as send; 16 or more of a block in all.
int summing_warps(int num_ranks) {
  if (const int channels = channels_of_block(num_ranks); channels > 1) return 16 / channels - num_ranks;
  return std::clamp(num_ranks, 4, std::min(8, most_threads / warp_size - num_ranks));
}
static_assert((exchange::CardExchange::most_ranks + 4) * warp_size <= most_threads);
int levels_of(int num_ranks) {
  return std::bit_width(std::bit_ceil(static_cast<unsigned>(num_ranks))) - 1;
}

/// Shared memory of a channel: what the summing threads keep of the tree, tables of copies, a word.
template <class T, int n>
FOURMI_INLINE constexpr int waiting_bytes(int levels, int summing) {
  return levels * summing * warp_size * n * static_cast<int>(sizeof(Accumulator<T>));
}
template <class T, int n>
FOURMI_INLINE constexpr int shared_of_channel(int levels, int summing) {
  constexpr int aligned = 128;
  const int bytes = waiting_bytes<T, n>(levels, summing) + summing * static_cast<int>(sizeof(CopiesOfToken)) +
                    static_cast<int>(sizeof(TeamWords));
  return (bytes + aligned - 1) / aligned * aligned;
}

template <class T, int n>
__global__ void __launch_bounds__(most_threads)
    from_experts(Ends ends, exchange::Tokens tokens, exchange::TokenRun all, RouteTables route,
                 const std::byte* __restrict__ partial, int levels, int summing, Outcome<T> out) {
  using A = Accumulator<T>;
  using exchange::Way;
  const int P = ends.num_ranks(), C = ends.num_channels(), me = ends.peers.rank;
  const int each = P + summing, part = static_cast<int>(threadIdx.x) / warp_size / each,
            warp = static_cast<int>(threadIdx.x) / warp_size % each;
  const int channel = static_cast<int>(blockIdx.x) * (static_cast<int>(blockDim.x) / warp_size / each) + part;
  const bool speaks = threadIdx.x % warp_size == 0;
  const std::int64_t row_bytes = std::int64_t{out.D} * static_cast<std::int64_t>(sizeof(A));
  auto* const waiting = dynamic_shared() + part * shared_of_channel<T, n>(levels, summing);
  const SummingTeam team{warp - P, summing, waiting,
                         reinterpret_cast<CopiesOfToken*>(waiting + waiting_bytes<T, n>(levels, summing))};
  if (team.thread() == 0) team.words().left = 0, team.words().barrier = 1 + part;
  __syncthreads();
  if (channel >= C) return;
  const auto first_row = [&](int rank) { return route.first[ends.lane(rank, channel)]; };
  if (warp >= P) {
    sum_results<T, n>(ends, tokens, exchange::run_of(channel, C, all.begin, all.end - all.begin), channel,
                      partial + first_row(me) * row_bytes, team, out);
    return;
  }
  const int peer = (me + 1 + warp) % P;
  if (peer == me) return;  // mine are read where they lie
  const exchange::RingShape& shape = ends.peers.window.shape(Way::combine);
  const exchange::Ring ring = ends.peers.to(Way::combine, peer, channel);
  std::uint64_t& at = ends.written(Way::combine, peer, channel);
  exchange::RingWriter writer(ring, shape, at);
  exchange::SendResults lane(&writer, partial, row_bytes, first_row(peer), route.received[ends.lane(peer, channel)]);
  WarpAgent<Reads::constant> agent;
  const Flag flag{Awaited::room, Way::combine, peer, channel, ring.head};
  const auto wanted = [&] { return writer.at() + 1 - static_cast<unsigned>(shape.num_slots); };
  if (walk(lane, agent, ends.watch, flag, wanted) && speaks) at = writer.at();
}

}  // namespace

void bring_from_experts(const CudaStream& stream, const Ends& ends, const exchange::Tokens& tokens,
                        exchange::TokenRun run, const RouteTables& route, const Tensor& partial_UD, const Tensor& y_MD,
                        const Tensor& first_MD, const Tensor& second_MD) {
  const std::int64_t D = y_MD.dim(1);
  FOURMI_CHECK(D < std::int64_t{1} << 30 && partial_UD.dim(1) == D && partial_UD.dtype == accumulate_dtype(y_MD.dtype),
               "results {} {} for rows {} {}", name_of(partial_UD.dtype), to_string(partial_UD.shape),
               name_of(y_MD.dtype), to_string(y_MD.shape));
  for (const Tensor* t : {&first_MD, &second_MD})
    FOURMI_CHECK(!*t || t->shape == y_MD.shape, "{} to be added to rows {}", to_string(t->shape),
                 to_string(y_MD.shape));
  FOURMI_CHECK(0 <= run.begin && run.begin <= run.end && run.end <= y_MD.dim(0), "tokens {} to {} of {}", run.begin,
               run.end, y_MD.dim(0));
  const int P = ends.num_ranks(), summing = summing_warps(P), levels = levels_of(P),
            channels = std::min(channels_of_block(P), ends.num_channels());
  const auto threads = static_cast<unsigned>(channels * (P + summing) * warp_size);
  const auto blocks = static_cast<unsigned>(ceil_div(ends.num_channels(), channels));
  visit_float(y_MD.dtype, "combine", [&]<class T>(std::type_identity<T>) {
    using A = Accumulator<T>;
    const Outcome<T> out{addend_of<T>(first_MD), addend_of<T>(second_MD), pointer<T>(y_MD), static_cast<int>(D)};
    const A* const partial = pointer<A>(partial_UD);
    const auto with = [&]<int n>(std::integral_constant<int, n>) {
      launch_together(stream, from_experts<T, n>, blocks, threads,
                      std::int64_t{channels} * shared_of_channel<T, n>(levels, summing), ends, tokens, run, route,
                      reinterpret_cast<const std::byte*>(partial), levels, summing, out);
    };
    constexpr int n = vector_length<T>;
    if (is_vector_aligned<n>(partial, D) && has_whole_vectors(out.y, D) && has_whole_vectors_of<T>(first_MD, D) &&
        has_whole_vectors_of<T>(second_MD, D))
      with(std::integral_constant<int, n>{});
    else
      with(std::integral_constant<int, 1>{});
  });
}

}  // namespace fourmi::cuda
