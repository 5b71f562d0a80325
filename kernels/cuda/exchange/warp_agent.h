// Who walks along a ring (kernels/exchange/ring.h) on a card: a warp, or a single thread. For .cu files.
//
// Why lane 0 may release what all lanes wrote. A lane's writes come before its arrival at __syncwarp() (bar.warp.sync,
// which orders memory among the lanes that take part), that before lane 0's st.release.sys, and that before the
// ld.acquire.sys of whoever reads its value. PTX's causality order is transitive whatever the scope of each step, as
// long as all of it goes through the generic proxy: so the writes come before what the reader does next, and by the
// __syncwarp() in acquire() before what the reader's other lanes do. No fence beside is needed. Reads likewise: a slot
// that was told to be free has been read by all lanes. What the copy engine writes (cp.async.bulk) is another proxy's
// and would need fence.proxy.async; here nothing is.
//
// Why loads and stores of registers rather than the copy engine: a row of 7,392 bytes is 15 loads and 15 stores of a
// lane, some 50 instructions a warp with their addresses. At a link's 450 GB/s that is 61 million rows a second and 3
// of the 135 thousand million instructions that 20 multiprocessors issue, so there is nothing to win by fewer of them.
#pragma once

#include "kernels/cuda/exchange/instructions.h"
#include "kernels/exchange/lanes.h"

namespace fourmi::cuda {

/// What copy() reads: memory that stays as it is while the kernel runs, or slots that other ranks write.
enum class Reads : std::uint8_t { constant, slots };

template <Reads reads>
class WarpAgent {
 public:
  __device__ WarpAgent() : lane_(static_cast<int>(threadIdx.x) % warp_size) {}

  __device__ std::uint64_t acquire(const std::uint64_t* flag) const {
    std::uint64_t value = 0;
    if (lane_ == 0) value = load_acquire(flag);
    __syncwarp();
    return __shfl_sync(all_lanes, value, 0);
  }
  __device__ void release(std::uint64_t* flag, std::uint64_t value) const {
    __syncwarp();
    if (lane_ == 0) store_release(flag, value);
  }
  /// Any addresses and lengths; by 16 bytes where all are multiples of that.
  __device__ void copy(std::byte* to, const std::byte* from, std::int64_t bytes) const {
    const auto all = reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from) |
                     static_cast<std::uintptr_t>(bytes);
    if (all % sizeof(Vector16) == 0)
      copy_vectors(reinterpret_cast<Vector16*>(to), reinterpret_cast<const Vector16*>(from),
                   static_cast<int>(bytes / static_cast<int>(sizeof(Vector16))));
    else if (all % sizeof(std::uint32_t) == 0)
      copy_words(reinterpret_cast<std::uint32_t*>(to), reinterpret_cast<const std::uint32_t*>(from), bytes / 4);
    else
      copy_words(to, from, bytes);
  }
  /// Each lane looks at one of the next 32 tokens; the answers are kept, so an agent is for one rank.
  __device__ std::int64_t next(const exchange::Tokens& tokens, std::int64_t t, std::int64_t end, int to) {
    while (t < end) {
      if (t - looked_at_ >= warp_size) {
        looked_at_ = t;
        going_ = __ballot_sync(all_lanes, t + lane_ < end && tokens.goes_to(t + lane_, to));
      }
      const unsigned rest = going_ >> (t - looked_at_);
      if (rest != 0) return t + __ffs(static_cast<int>(rest)) - 1;
      t = looked_at_ + warp_size;
    }
    return end;
  }

 private:
  static constexpr int in_flight = 8;  // vectors of a lane: 4 KiB of a warp

  __device__ void copy_vectors(Vector16* to, const Vector16* from, int n) const {
    for (int first = lane_; first < n; first += in_flight * warp_size) {
      Vector16 held[in_flight];
#pragma unroll
      for (int i = 0; i < in_flight; ++i)
        if (first + i * warp_size < n) held[i] = load(from + first + i * warp_size);
#pragma unroll
      for (int i = 0; i < in_flight; ++i)
        if (first + i * warp_size < n) store_row(to + first + i * warp_size, held[i]);
    }
  }
  __device__ static Vector16 load(const Vector16* p) {
    if constexpr (reads == Reads::constant)
      return load_constant(p);
    else
      return load_slot(p);
  }
  template <class X>
  __device__ void copy_words(X* to, const X* from, std::int64_t n) const {
#pragma unroll 1
    for (std::int64_t i = lane_; i < n; i += warp_size) to[i] = from[i];
  }

  int lane_;
  unsigned going_ = 0;  // of tokens from looked_at_ on, a bit each
  std::int64_t looked_at_ = -warp_size;
};

/// In place of exchange::next_token().
template <Reads reads>
__device__ std::int64_t next_token(WarpAgent<reads>& agent, const exchange::Tokens& tokens, std::int64_t t,
                                   std::int64_t end, int to) {
  return agent.next(tokens, t, end, to);
}

/// A thread that has flags of its own. tells: false where another one tells the same.
struct ThreadAgent {
  bool tells = true;
  __device__ std::uint64_t acquire(const std::uint64_t* flag) const { return load_acquire(flag); }
  __device__ void release(std::uint64_t* flag, std::uint64_t value) const {
    if (tells) store_release(flag, value);
  }
};

}  // namespace fourmi::cuda
