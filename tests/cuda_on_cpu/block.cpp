#include "tests/cuda_on_cpu/block.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "tests/cuda_on_cpu/fiber.h"

namespace cuda_on_cpu {
namespace {

/// What lanes of one mask exchange. Two sets of places take turns: a lane writes into a set again only after all lanes
/// have come to the exchange in between, and so have read it.
struct Meeting {
  unsigned mask = 0;
  LaneBytes bytes[2];
  std::array<std::uint64_t, 32> rounds{};  // exchanges that a lane has entered
};

struct Warp {
  unsigned asleep = 0;  // turns that it does not get
  std::vector<std::unique_ptr<Meeting>> meetings;
  Meeting& of(unsigned mask) {
    for (const auto& m : meetings)
      if (m->mask == mask) return *m;
    meetings.push_back(std::make_unique<Meeting>());
    meetings.back()->mask = mask;
    return *meetings.back();
  }
};

struct Block;
struct Thread {
  Fiber fiber;
  Dim index;
  int lane = 0;
  Block* block = nullptr;
  Warp* warp = nullptr;
  const std::function<bool()>* ready = nullptr;  // null: it can go on
  const char* waits_for = "";
};

struct Barrier {
  unsigned arrived = 0;
  std::uint64_t generation = 0;
};

struct Block {
  Dim at;
  std::vector<Warp> warps;
  std::array<Barrier, 16> barriers{};
  std::vector<std::byte> shared;
};

/// Of one host thread; it keeps its fibers from kernel to kernel.
struct Machine {
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<std::unique_ptr<Block>> blocks;  // those that run
  Dim grid, block;
  Thread* running = nullptr;
  const char* name = "";
  std::mt19937_64 random{1};
};

Machine& machine() {
  thread_local Machine m;
  return m;
}

[[noreturn]] void stuck(const Machine& m, unsigned count) {
  std::fprintf(stderr, "kernel %s: threads wait for ever\n", m.name);
  for (unsigned i = 0; i < count; ++i) {
    const Thread& t = *m.threads[i];
    const Dim &at = t.block->at, &in = t.index;
    if (!t.fiber.ended())
      std::fprintf(stderr, "  block (%u, %u, %u), thread (%u, %u, %u): %s\n", at.x, at.y, at.z, in.x, in.y, in.z,
                   t.waits_for);
  }
  std::abort();
}

void begin(Machine& m, Block& block, Dim at, std::size_t shared_bytes) {
  block.at = at;
  block.warps.clear();
  block.warps.resize((m.block.x * m.block.y * m.block.z + 31) / 32);
  block.barriers = {};
  block.shared.assign(shared_bytes + 1024, std::byte{0xff});
}

/// Who waits for what other kernels write has to do with warps that are far behind: now and then one gets no turn for
/// some time.
void put_to_sleep(Machine& m, std::size_t num_blocks) {
  for (std::size_t b = 0; b < num_blocks; ++b)
    for (Warp& warp : m.blocks[b]->warps)
      if (warp.asleep > 0)
        --warp.asleep;
      else if (m.random() % 128 == 0)
        warp.asleep = static_cast<unsigned>(m.random() % 128);
}

/// The first `num_blocks` of the machine's, side by side.
void run_blocks(Machine& m, std::size_t num_blocks, bool together, const std::function<void()>& kernel) {
  const unsigned each = m.block.x * m.block.y * m.block.z, count = each * static_cast<unsigned>(num_blocks);
  while (m.threads.size() < count) m.threads.push_back(std::make_unique<Thread>());
  for (unsigned i = 0; i < count; ++i) {
    Thread& t = *m.threads[i];
    const unsigned in = i % each;
    t.index = {in % m.block.x, in / m.block.x % m.block.y, in / m.block.x / m.block.y};
    t.lane = static_cast<int>(in % 32);
    t.block = m.blocks[i / each].get();
    t.warp = &t.block->warps[in / 32];
    t.ready = nullptr;
    t.waits_for = "";
    t.fiber.begin(kernel);
  }
  std::vector<unsigned> alive(count);
  std::iota(alive.begin(), alive.end(), 0u);
  while (!alive.empty()) {
    std::shuffle(alive.begin(), alive.end(), m.random);
    bool moved = false;
    if (together) put_to_sleep(m, num_blocks);
    for (unsigned i : alive) {
      Thread& t = *m.threads[i];
      moved |= t.warp->asleep > 0;
      if (t.warp->asleep > 0) continue;
      if (t.ready && !(*t.ready)()) continue;
      t.ready = nullptr;
      m.running = &t;
      t.fiber.resume();
      m.running = nullptr;
      moved = true;
    }
    if (!moved) stuck(m, count);
    std::erase_if(alive, [&](unsigned i) { return m.threads[i]->fiber.ended(); });
  }
}

}  // namespace

void set_seed(std::uint64_t seed) {
  machine().random.seed(seed);
}

void run_kernel(Dim grid, Dim block, std::size_t shared_bytes, const char* name, bool together,
                const std::function<void()>& kernel) {
  Machine& m = machine();
  m.grid = grid, m.block = block, m.name = name;
  std::vector<unsigned> order(grid.x * grid.y * grid.z);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), m.random);
  const std::size_t at_once = together ? order.size() : 1;
  while (m.blocks.size() < at_once) m.blocks.push_back(std::make_unique<Block>());
  for (std::size_t first = 0; first < order.size(); first += at_once) {
    for (std::size_t b = 0; b < at_once; ++b) {
      const unsigned i = order[first + b];
      begin(m, *m.blocks[b], {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y}, shared_bytes);
    }
    run_blocks(m, at_once, together, kernel);
  }
}

const Dim& thread_index() {
  return machine().running->index;
}
const Dim& block_index() {
  return machine().running->block->at;
}
const Dim& block_dim() {
  return machine().block;
}
const Dim& grid_dim() {
  return machine().grid;
}
int lane() {
  return machine().running->lane;
}
std::byte* dynamic_shared() {
  std::byte* const shared = machine().running->block->shared.data();
  return shared + (1024 - reinterpret_cast<std::uintptr_t>(shared) % 1024) % 1024;
}

void wait_until(const std::function<bool()>& ready, const char* what) {
  Thread& t = *machine().running;
  while (!ready()) {
    t.ready = &ready;
    t.waits_for = what;
    t.fiber.leave();
  }
}

void leave() {
  machine().running->fiber.leave();
}

void barrier(unsigned id, unsigned count) {
  Barrier& b = machine().running->block->barriers.at(id);
  const std::uint64_t mine = b.generation;
  if (++b.arrived == count) {
    b.arrived = 0;
    ++b.generation;
    return;
  }
  wait_until([&b, mine] { return b.generation != mine; }, "a barrier of the block");
}

const LaneBytes& exchange(unsigned mask, const void* value, std::size_t bytes) {
  Thread& t = *machine().running;
  Meeting& w = t.warp->of(mask);
  const auto mine = static_cast<std::size_t>(t.lane);
  if ((mask >> mine & 1) == 0) {
    std::fprintf(stderr, "kernel %s: lane %zu is not in its own mask %08x\n", machine().name, mine, mask);
    std::abort();
  }
  const std::uint64_t round = ++w.rounds[mine];
  LaneBytes& set = w.bytes[round % 2];
  std::memcpy(set[mine].data(), value, bytes);
  const auto all_here = [&w, mask, round] {
    for (unsigned m = mask; m != 0; m &= m - 1)
      if (w.rounds[static_cast<std::size_t>(std::countr_zero(m))] < round) return false;
    return true;
  };
  wait_until(all_here, "lanes of its warp");
  return set;
}

}  // namespace cuda_on_cpu
