// One block of a kernel on the CPU. Its threads are fibers that take turns in a random order (of a seed), each until it
// waits for others: at a barrier, in an operation of its warp, or for something that another thread has to do. So a
// missing barrier is seen as a wrong result, and threads that wait for what never happens as an error.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

namespace cuda_on_cpu {

struct Dim {
  unsigned x = 1, y = 1, z = 1;
};

/// Runs kernel() for all threads of all blocks in an order of the seed: block after block, or all blocks side by side
/// (`together`; those have dynamic shared memory alone). Aborts with a message where threads wait for ever.
void run_kernel(Dim grid, Dim block, std::size_t shared_bytes, const char* name, bool together,
                const std::function<void()>& kernel);
/// Of the orders from here on.
void set_seed(std::uint64_t seed);

/// Of the thread that runs.
const Dim& thread_index();
const Dim& block_index();
const Dim& block_dim();
const Dim& grid_dim();
std::byte* dynamic_shared();

/// A named barrier (0 to 15) of the block for `count` threads.
void barrier(unsigned id, unsigned count);
/// Leaves until ready() is true; it is asked again each time it is this thread's turn. `what`: for the message.
void wait_until(const std::function<bool()>& ready, const char* what);

/// Leaves once, for who asks again and again for what another kernel does: that is no waiting for ever.
void leave();

/// The lanes of `mask` come together; each has written `bytes` and may then read what the others have: for shuffles and
/// all that a warp does together. The result is good until the lane's next exchange.
using LaneBytes = std::array<std::array<std::byte, 64>, 32>;
const LaneBytes& exchange(unsigned mask, const void* value, std::size_t bytes);
int lane();

template <class T>
T from_lane(const LaneBytes& all, int lane) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 64);
  T value;
  std::memcpy(&value, all[static_cast<std::size_t>(lane)].data(), sizeof(T));
  return value;
}

}  // namespace cuda_on_cpu
