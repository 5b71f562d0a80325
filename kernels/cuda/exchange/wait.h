// Steps of a lane (kernels/exchange/lanes.h) until it is done or its peer is lost. For .cu files.
#pragma once

#include "kernels/cuda/exchange/warp_agent.h"
#include "kernels/cuda/exchange/watch.h"
#include "kernels/exchange/lanes.h"

namespace fourmi::cuda {

/// Of one thread that waits, or of lane 0 for its warp. Room is waited for twice as long: a peer that makes none may
/// itself wait for the rows of the one that was lost, whom other warps here name meanwhile.
class Patience {
 public:
  __device__ explicit Patience(const Watch& watch, Awaited what)
      : watch_(watch), most_(watch.patience * (what == Awaited::room ? 2 : 1)) {}
  /// Something has come.
  __device__ void restart() { since_ = 0; }
  /// Nothing has. `report`: called once by who gives up first, with what is to be filled in; true: leave.
  template <class Report>
  __device__ bool is_over(const Report& report) {
    if (*static_cast<volatile std::uint32_t*>(watch_.claimed) != 0) return true;
    if (most_ == 0) return false;
    const std::uint64_t now = nanoseconds();
    if (since_ == 0) since_ = now;
    if (now - since_ <= most_) return false;
    if (atomicCAS(watch_.claimed, 0u, 1u) == 0) {
      report(*watch_.report);
      store_release(&watch_.report->written, 1);
    }
    return true;
  }

 private:
  const Watch& watch_;
  std::uint64_t most_, since_ = 0;
};

/// More rows arrive than there is space for: the rank gives up.
__device__ inline void report_overflow(const Watch& watch, std::uint64_t arrive, std::uint64_t space) {
  if (atomicCAS(watch.claimed, 0u, 1u) != 0) return;
  watch.report->what = Awaited::space, watch.report->seen = arrive, watch.report->wanted = space;
  store_release(&watch.report->written, 1);
}

/// By a whole warp: has one of this rank's given up, in this kernel or in one before it?
__device__ inline bool has_given_up(const Watch& watch) {
  unsigned claimed = 0;
  if (threadIdx.x % warp_size == 0) claimed = *static_cast<volatile std::uint32_t*>(watch.claimed);
  return __shfl_sync(all_lanes, claimed, 0) != 0;
}

/// What a lane waits for, when it has to.
struct Flag {
  Awaited what;
  exchange::Way way;
  int peer, channel;
  const std::uint64_t* flag;

  __device__ void say(GaveUp& report, std::uint64_t wanted) const {
    report.what = what, report.way = way, report.peer = peer, report.channel = channel;
    report.seen = load_acquire(flag), report.wanted = wanted;
  }
};

/// By a whole warp. wanted(): what the flag would have to say. False: it gave up. A rank that has given up sends
/// nothing more, since it may be made of what never came: its peers then miss it, and give up too.
template <class Lane, class Agent, class Wanted>
__device__ bool walk(Lane& lane, Agent& agent, const Watch& watch, const Flag& flag, const Wanted& wanted) {
  const bool speaks = threadIdx.x % warp_size == 0;
  if (has_given_up(watch)) return false;
  Patience patience(watch, flag.what);
  while (true) {
    const exchange::Progress progress = lane.step(agent);
    if (progress == exchange::Progress::done) return true;
    if (progress == exchange::Progress::moved) {
      patience.restart();
      continue;
    }
    int over = 0;
    if (speaks) over = patience.is_over([&](GaveUp& report) { flag.say(report, wanted()); });
    if (__shfl_sync(all_lanes, over, 0) != 0) return false;
    pause();
  }
}

}  // namespace fourmi::cuda
