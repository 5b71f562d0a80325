// Rows of tokens into the rings of the ranks that hold their experts, and rows that come out of this rank's rings to
// where the grouped products read them. Persistent: a warp has one end of one ring for as long as the call lasts, and
// all warps of all ranks run at once. Bound by the link between the cards: a row is read and written once where it
// leaves and once where it arrives. FP8 rows bring their scales, which lie behind their elements.
#include "kernels/cuda/exchange/launch_together.h"
#include "kernels/cuda/exchange/to_experts.h"
#include "kernels/cuda/exchange/wait.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 512;  // of a block: it has the senders and receivers of one channel of eight ranks

/// Of a channel first the senders, the nearest rank above this one first so that not all write to the same one, then
/// the receivers.
__global__ void __launch_bounds__(threads) to_experts(Ends ends, exchange::Tokens tokens, exchange::TokenRun all,
                                                      RouteTables route, exchange::ArrivingRows into) {
  using exchange::Way;
  const int warp = static_cast<int>(blockIdx.x) * (threads / warp_size) + static_cast<int>(threadIdx.x) / warp_size;
  const int P = ends.num_ranks(), C = ends.num_channels(), me = ends.peers.rank;
  const int channel = warp / (2 * P), role = warp % (2 * P), peer = (me + 1 + role) % P;
  if (channel >= C) return;
  const exchange::RingShape& shape = ends.peers.window.shape(Way::dispatch);
  const bool speaks = threadIdx.x % warp_size == 0;
  if (role < P) {
    const exchange::Ring ring = ends.peers.to(Way::dispatch, peer, channel);
    std::uint64_t& at = ends.written(Way::dispatch, peer, channel);
    exchange::RingWriter writer(ring, shape, at);
    exchange::SendTokens lane(&writer, tokens, exchange::run_of(channel, C, all.begin, all.end - all.begin), peer);
    WarpAgent<Reads::constant> agent;
    const Flag flag{Awaited::room, Way::dispatch, peer, channel, ring.head};
    const auto wanted = [&] { return writer.at() + 1 - static_cast<unsigned>(shape.num_slots); };
    if (walk(lane, agent, ends.watch, flag, wanted) && speaks) at = writer.at();
  } else {
    const exchange::Ring ring = ends.peers.from(Way::dispatch, peer, channel);
    std::uint64_t& at = ends.read(Way::dispatch, peer, channel);
    const int i = ends.lane(peer, channel);
    exchange::RingReader reader(ring, shape, at);
    const std::int64_t arrive = route.first[ends.num_lanes()];
    if (speaks && arrive > into.capacity)
      report_overflow(ends.watch, static_cast<std::uint64_t>(arrive), static_cast<std::uint64_t>(into.capacity));
    exchange::ReceiveRows lane(&reader, into, route.first[i], route.received[i]);
    WarpAgent<Reads::slots> agent;
    const Flag flag{Awaited::row, Way::dispatch, peer, channel, ring.tail};
    if (walk(lane, agent, ends.watch, flag, [&] { return reader.at() + 1; }) && speaks) at = reader.at();
  }
}

}  // namespace

void send_to_experts(const CudaStream& stream, const Ends& ends, const exchange::Tokens& tokens, exchange::TokenRun run,
                     const RouteTables& route, const exchange::ArrivingRows& into) {
  const std::int64_t warps = 2 * std::int64_t{ends.num_lanes()};
  launch_together(stream, to_experts, static_cast<unsigned>(ceil_div(warps, threads / warp_size)), threads, 0, ends,
                  tokens, run, route, into);
}

}  // namespace fourmi::cuda
