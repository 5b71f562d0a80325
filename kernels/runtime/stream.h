// Where work goes. The CPU's stream runs inline and carries the thread pool, the instruction set and, where a step's
// time is asked for, the rank's timeline; order between streams is an Event. (The CUDA back end brings its own kind
// behind the same names.)
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/runtime/thread_pool.h"
#include "kernels/runtime/timeline.h"

namespace fourmi {

/// Instruction sets of the simd tier. All give equal bits; tests run each that the machine has.
enum class Isa : std::uint8_t {
  portable,  ///< plain scalar code
  avx2,      ///< AVX2 with FMA
  avx512,    ///< AVX-512 F, BW, DQ, VL and BF16
};

std::string_view name_of(Isa isa);
bool has_isa(Isa isa);  ///< does this machine have it?
Isa best_isa();         ///< the widest that this machine has

class Stream {
 public:
  explicit Stream(ThreadPool& pool, Isa isa = best_isa(), Timeline* timeline = nullptr)
      : pool_(&pool), isa_(isa), timeline_(timeline) {}
  ThreadPool& pool() const { return *pool_; }
  Isa isa() const { return isa_; }
  Timeline* timeline() const { return timeline_; }  ///< null: nobody asks
  void synchronize() const {}

 private:
  ThreadPool* pool_;
  Isa isa_;
  Timeline* timeline_;
};

/// A point in a stream's work. On the CPU all work before it has already run.
class Event {
 public:
  void record(const Stream&) {}
  void wait(const Stream&) const {}
  void synchronize() const {}
};

}  // namespace fourmi
