// What ranks made of the rows that visited them, back to where the tokens are, and there the sum of a token's copies
// and of what is added to it. Persistent, a block a channel: some warps send, one for each rank, and some sum. Bound by
// the link between the cards, or where rows are bf16 and copies f32 by reading those: a copy is read and written once
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

/// Warps of a block that sum: as many as send, but enough for few ranks.
int summing_warps(int num_ranks) {
  return std::clamp(num_ranks, 4, std::min(8, most_threads / warp_size - num_ranks));
}
static_assert((exchange::CardExchange::most_ranks + 4) * warp_size <= most_threads);
int levels_of(int num_ranks) {
  return std::bit_width(std::bit_ceil(static_cast<unsigned>(num_ranks))) - 1;
}

template <class T, int n>
__global__ void __launch_bounds__(most_threads)
    from_experts(Ends ends, exchange::Tokens tokens, exchange::TokenRun all, RouteTables route,
                 const std::byte* __restrict__ partial, int levels, Outcome<T> out) {
  using A = Accumulator<T>;
  using exchange::Way;
  const int P = ends.num_ranks(), C = ends.num_channels(), me = ends.peers.rank;
  const int channel = static_cast<int>(blockIdx.x), warp = static_cast<int>(threadIdx.x) / warp_size;
  const bool speaks = threadIdx.x % warp_size == 0;
  const std::int64_t row_bytes = std::int64_t{out.D} * static_cast<std::int64_t>(sizeof(A));
  SummingTeam team{warp - P, static_cast<int>(blockDim.x) / warp_size - P, nullptr, dynamic_shared(), nullptr};
  auto* const tables = reinterpret_cast<CopiesOfToken*>(dynamic_shared() + std::int64_t{levels} * team.num_threads() *
                                                                               n * static_cast<int>(sizeof(A)));
  team.copies = tables + max(0, team.warp);
  team.left = reinterpret_cast<int*>(tables + team.num_warps);
  if (threadIdx.x == 0) *team.left = 0;
  __syncthreads();
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

template <class T, int n>
std::int64_t shared_bytes(int num_ranks) {
  const int warps = summing_warps(num_ranks);
  return levels_of(num_ranks) * std::int64_t{warps} * warp_size * n * static_cast<int>(sizeof(Accumulator<T>)) +
         warps * static_cast<std::int64_t>(sizeof(CopiesOfToken)) + 16;
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
  const int P = ends.num_ranks();
  const auto threads = static_cast<unsigned>((P + summing_warps(P)) * warp_size);
  visit_float(y_MD.dtype, "combine", [&]<class T>(std::type_identity<T>) {
    using A = Accumulator<T>;
    const Outcome<T> out{addend_of<T>(first_MD), addend_of<T>(second_MD), pointer<T>(y_MD), static_cast<int>(D)};
    const A* const partial = pointer<A>(partial_UD);
    const auto with = [&]<int n>(std::integral_constant<int, n>) {
      launch_together(stream, from_experts<T, n>, static_cast<unsigned>(ends.num_channels()), threads,
                      shared_bytes<T, n>(P), ends, tokens, run, route, reinterpret_cast<const std::byte*>(partial),
                      levels_of(P), out);
    };
    constexpr int n = vector_length<T>;
    if (is_vector_aligned<n>(partial, D) && has_whole_vectors(out.y, D) && has_whole_vectors_of<T>(first_MD, D) &&
        has_whole_vectors_of<T>(second_MD, D))
      with(std::integral_constant<int, n>{});
    else
      with(std::integral_constant<int, 1>{});
  });
}

void prepare_from_experts() {
  const auto both = []<class T>(std::type_identity<T>) {
    prepare(from_experts<T, vector_length<T>>);
    prepare(from_experts<T, 1>);
  };
  both(std::type_identity<double>{});
  both(std::type_identity<float>{});
  both(std::type_identity<bfloat16>{});
}

}  // namespace fourmi::cuda
