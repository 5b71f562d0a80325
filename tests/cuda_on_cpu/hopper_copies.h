// Hopper's barriers and copy engine on the CPU. A copy that was begun is done at some later time, of a seed, and copies
// overtake each other; until it is done its place in shared memory holds poison (0xff: NaN as e4m3 and as f32). What
// the hardware leaves undefined, or would hang on, ends the program with a message.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/cuda/hopper/tensor_map.h"
#include "tests/cuda_on_cpu/block.h"

namespace cuda_on_cpu::hopper {

using fourmi::cuda::hopper::MappedTensor;

[[noreturn]] inline void broken(const char* what) {
  const Dim &at = block_index(), &thread = thread_index();
  std::fprintf(stderr, "block (%u, %u, %u), thread %u: %s\n", at.x, at.y, at.z, thread.x, what);
  std::abort();
}
inline void require(bool good, const char* what) {
  if (!good) broken(what);
}

/// Shared memory begins somewhere, aligned to what swizzles repeat after.
inline constexpr std::uint32_t shared_begin = 2048;
inline constexpr std::size_t shared_most = 227 << 10;

inline std::uint32_t shared_address(const void* p) {
  const std::ptrdiff_t offset = static_cast<const std::byte*>(p) - dynamic_shared();
  require(0 <= offset && static_cast<std::size_t>(offset) < shared_most, "an address that is not in shared memory");
  return shared_begin + static_cast<std::uint32_t>(offset);
}
inline std::byte* shared_memory(std::uint32_t address) {
  require(address >= shared_begin && address - shared_begin < shared_most, "an address outside of shared memory");
  return dynamic_shared() + (address - shared_begin);
}

/// What a barrier's eight bytes hold here. Shared memory begins as 0xff, which no barrier is.
struct BarrierState {
  std::uint64_t parity : 1;
  std::uint64_t expected : 20;  // arrivals of a phase
  std::uint64_t pending : 20;   // that are still to come
  std::int64_t bytes : 22;      // announced and still to come; below zero: come before they were announced
  std::uint64_t mark : 1;

  static BarrierState of(const std::uint64_t* b) {
    BarrierState s;
    std::memcpy(&s, b, sizeof(s));
    require(s.mark == 0 && s.expected > 0, "a barrier that was not initialised");
    return s;
  }
  void put(std::uint64_t* b) {
    if (pending == 0 && bytes == 0) {
      parity ^= 1u;
      pending = expected;
    }
    std::memcpy(b, this, sizeof(*this));
  }
};
static_assert(sizeof(BarrierState) == 8);

struct Copy {
  MappedTensor map;
  std::array<std::int64_t, MappedTensor::max_rank> at{};
  const std::byte* bytes_from = nullptr;  // of consecutive bytes: no map
  std::uint32_t to = 0;
  std::int64_t bytes = 0;
  std::uint64_t* barrier = nullptr;
};

/// Of the block that runs on this host thread.
struct CopyEngine {
  std::vector<Copy> under_way;
  std::mt19937_64 random{1};
  bool fenced = true;  // barriers that were initialised since
};
inline CopyEngine& copy_engine() {
  thread_local CopyEngine engine;
  return engine;
}
/// Of when copies are done, from here on.
inline void set_copy_seed(std::uint64_t seed) {
  copy_engine().random.seed(seed);
}
/// Copies that a kernel has left behind (none, if it is right).
inline std::size_t copies_left() {
  return copy_engine().under_way.size();
}

inline void move_box(const Copy& c) {
  const MappedTensor& m = c.map;
  const std::int64_t row_bytes = m.box_row_bytes(), rows = c.bytes / row_bytes, size = m.element_bytes();
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto* from = static_cast<const std::byte*>(m.address);
    bool inside = true;
    std::int64_t rest = row;
    for (std::size_t i = 1; i < static_cast<std::size_t>(m.rank); ++i) {
      const std::int64_t index = c.at[i] + rest % m.box[i];
      rest /= m.box[i];
      inside = inside && 0 <= index && index < m.dims[i];
      from += index * m.strides[i - 1];
    }
    for (std::int64_t k = 0; k < row_bytes; ++k) {
      const std::int64_t index = c.at[0] + k / size;
      const bool is_there = inside && 0 <= index && index < m.dims[0];
      const auto address = c.to + static_cast<std::uint32_t>(row * row_bytes + k);
      *shared_memory(swizzled(m.swizzle, address)) = is_there ? from[c.at[0] * size + k] : std::byte{0};
    }
  }
}

/// Does one of the copies under way, whichever.
inline void finish_a_copy() {
  CopyEngine& engine = copy_engine();
  const std::size_t i = engine.random() % engine.under_way.size();
  const Copy c = engine.under_way[i];
  engine.under_way.erase(engine.under_way.begin() + static_cast<std::ptrdiff_t>(i));
  if (c.bytes_from)
    std::memcpy(shared_memory(c.to), c.bytes_from, static_cast<std::size_t>(c.bytes));
  else
    move_box(c);
  BarrierState s = BarrierState::of(c.barrier);
  s.bytes -= c.bytes;
  s.put(c.barrier);
}
/// None, one or more, with a chance of 1 / `chance` each.
inline void finish_some_copies(unsigned chance) {
  while (!copy_engine().under_way.empty() && copy_engine().random() % chance == 0) finish_a_copy();
}

/// The other threads have a turn, and then this one goes on.
inline void let_others_go_on() {
  int turns = 0;
  wait_until([&turns] { return turns++ > 0; }, "its next turn");
}
inline void let_others_go_on_sometimes() {
  if (copy_engine().random() % 8 != 0) return;
  for (auto turns = copy_engine().random() % 32; turns > 0; --turns) let_others_go_on();
}

inline void begin_copy(const Copy& c) {
  CopyEngine& engine = copy_engine();
  require(engine.fenced, "a copy to a barrier after whose init() there was no fence");
  BarrierState::of(c.barrier);
  for (const Copy& other : engine.under_way)
    require(c.to + c.bytes <= other.to || other.to + other.bytes <= c.to, "two copies under way to one place");
  const std::uint32_t last = c.to + static_cast<std::uint32_t>(c.bytes) - 1;
  shared_memory(last);
  std::memset(shared_memory(c.to), 0xff, static_cast<std::size_t>(c.bytes));
  engine.under_way.push_back(c);
  finish_some_copies(4);
  let_others_go_on_sometimes();
}

inline void init(std::uint64_t* b, unsigned arrivals) {
  CopyEngine& engine = copy_engine();
  require(engine.under_way.empty(), "the block before ended while copies to its shared memory were under way");
  require(shared_address(b) % 8 == 0 && 0 < arrivals && arrivals < 1u << 20, "a barrier for no or too many arrivals");
  const BarrierState s{0, arrivals, arrivals, 0, 0};
  std::memcpy(b, &s, sizeof(s));
  engine.fenced = false;
}
inline void arrive_expecting(std::uint64_t* b, unsigned bytes) {
  BarrierState s = BarrierState::of(b);
  require(s.pending > 0, "more arrive at a barrier than were expected in its phase");
  require(bytes < 1u << 20, "more bytes than a barrier counts");
  s.pending -= 1u;
  s.bytes += bytes;
  s.put(b);
  let_others_go_on_sometimes();
}
inline void wait(std::uint64_t* b, unsigned parity) {
  require(parity <= 1, "a parity is 0 or 1");
  const auto ended = [b, parity] { return BarrierState::of(b).parity != parity; };
  while (!ended()) {
    if (copy_engine().under_way.empty()) {
      wait_until([&] { return ended() || !copy_engine().under_way.empty(); },
                 "a phase of a barrier of arrivals and bytes");
      continue;
    }
    finish_some_copies(512);  // all who wait come by here, turn after turn
    let_others_go_on();
  }
}

}  // namespace cuda_on_cpu::hopper
