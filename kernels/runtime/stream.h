// Where work goes. The CPU's stream runs inline and carries the thread pool, the instruction set and, where a step's
// time is asked for, the rank's timeline; order between streams is an Event. A device's stream (device.h) carries them
// too: for the host's part of the work.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "kernels/runtime/device.h"
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
  /// `device` outlives it.
  Stream(DeviceStream& device, ThreadPool& pool, Timeline* timeline = nullptr)
      : pool_(&pool), isa_(best_isa()), timeline_(timeline), device_(&device) {}
  /// The same, whose time goes on that timeline.
  Stream with(Timeline& timeline) const {
    Stream s = *this;
    s.timeline_ = &timeline;
    return s;
  }
  ThreadPool& pool() const { return *pool_; }
  Isa isa() const { return isa_; }
  Timeline* timeline() const { return timeline_; }  ///< null: nobody asks
  DeviceStream* device() const { return device_; }  ///< null: work runs on the CPU, inline
  /// The host waits until all work is done.
  void synchronize() const {
    if (device_) device_->synchronize();
  }

 private:
  ThreadPool* pool_;
  Isa isa_;
  Timeline* timeline_;
  DeviceStream* device_ = nullptr;
};

/// A point in a stream's work. On the CPU all work before it has already run. Waiting for what was never recorded is no
/// wait.
class Event {
 public:
  void record(const Stream& stream) {
    if (!stream.device()) return;
    if (!event_) event_ = stream.device()->make_event();
    event_->record(*stream.device());
  }
  void wait(const Stream& stream) const {
    if (event_) event_->wait(*stream.device());
  }
  void synchronize() const {
    if (event_) event_->synchronize();
  }

 private:
  std::unique_ptr<DeviceEvent> event_;
};

}  // namespace fourmi
