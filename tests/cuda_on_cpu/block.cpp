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
  std::vector<std::unique_ptr<Meeting>> meetings;
  Meeting& of(unsigned mask) {
    for (const auto& m : meetings)
      if (m->mask == mask) return *m;
    meetings.push_back(std::make_unique<Meeting>());
    meetings.back()->mask = mask;
    return *meetings.back();
  }
};

struct Thread {
  Fiber fiber;
  Dim index;
  int lane = 0;
  Warp* warp = nullptr;
  const std::function<bool()>* ready = nullptr;  // null: it can go on
  const char* waits_for = "";
};

struct Barrier {
  unsigned arrived = 0;
  std::uint64_t generation = 0;
};

/// Of one host thread; it keeps its fibers from kernel to kernel.
struct Machine {
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<Warp> warps;
  std::array<Barrier, 16> barriers{};
  std::vector<std::byte> shared;
  Dim grid, block, at;
  Thread* running = nullptr;
  const char* name = "";
  std::mt19937_64 random{1};
};

Machine& machine() {
  thread_local Machine m;
  return m;
}

[[noreturn]] void stuck(const Machine& m, unsigned count) {
  std::fprintf(stderr, "kernel %s, block (%u, %u, %u): its threads wait for ever\n", m.name, m.at.x, m.at.y, m.at.z);
  for (unsigned i = 0; i < count; ++i)
    if (!m.threads[i]->fiber.ended()) std::fprintf(stderr, "  thread %u: %s\n", i, m.threads[i]->waits_for);
  std::abort();
}

void run_block(Machine& m, const std::function<void()>& kernel) {
  const unsigned count = m.block.x * m.block.y * m.block.z;
  m.warps.clear();
  m.warps.resize((count + 31) / 32);
  m.barriers = {};
  std::fill(m.shared.begin(), m.shared.end(), std::byte{0xff});
  while (m.threads.size() < count) m.threads.push_back(std::make_unique<Thread>());
  for (unsigned i = 0; i < count; ++i) {
    Thread& t = *m.threads[i];
    t.index = {i % m.block.x, i / m.block.x % m.block.y, i / m.block.x / m.block.y};
    t.lane = static_cast<int>(i % 32);
    t.warp = &m.warps[i / 32];
    t.ready = nullptr;
    t.waits_for = "";
    t.fiber.begin(kernel);
  }
  std::vector<unsigned> alive(count);
  std::iota(alive.begin(), alive.end(), 0u);
  while (!alive.empty()) {
    std::shuffle(alive.begin(), alive.end(), m.random);
    bool moved = false;
    for (unsigned i : alive) {
      Thread& t = *m.threads[i];
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

void run_kernel(Dim grid, Dim block, std::size_t shared_bytes, const char* name, const std::function<void()>& kernel) {
  Machine& m = machine();
  m.grid = grid, m.block = block, m.name = name;
  m.shared.assign(shared_bytes + 1024, std::byte{0xff});
  std::vector<unsigned> order(grid.x * grid.y * grid.z);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), m.random);
  for (unsigned i : order) {
    m.at = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
    run_block(m, kernel);
  }
}

const Dim& thread_index() {
  return machine().running->index;
}
const Dim& block_index() {
  return machine().at;
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
  const auto p = reinterpret_cast<std::uintptr_t>(machine().shared.data());
  return machine().shared.data() + (1024 - p % 1024) % 1024;
}

void wait_until(const std::function<bool()>& ready, const char* what) {
  Thread& t = *machine().running;
  while (!ready()) {
    t.ready = &ready;
    t.waits_for = what;
    t.fiber.leave();
  }
}

void barrier(unsigned id, unsigned count) {
  Barrier& b = machine().barriers.at(id);
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
