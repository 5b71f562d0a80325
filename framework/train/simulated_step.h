// A measured step beside what its schedule should have taken: the simulator with the step's own mean times of each
// stage, so that what differs is not how long stages take but what lies between them - messages that come late, stages
// that take longer once than another time, ranks that others use.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "framework/train/pipeline.h"
#include "framework/train/stages.h"
#include "parallel/schedule/simulate.h"

namespace fourmi {

/// What a rank did in a step, on rank 0's clock.
struct RankActions {
  int place = 0;  ///< along the pipeline
  std::vector<Pipeline::Done> done;
  int replica = 0;  ///< ranks of one pipeline have the same
};

/// As Pipeline::done() has it, with the times that the newest recorded step's spans have on the device's clock, where
/// there are as many.
std::vector<Pipeline::Done> on_device_clock(std::span<const Pipeline::Done> done, const Timeline& timeline);

struct SimulatedStep {
  Schedule schedule;
  Simulation simulation;   ///< in seconds
  std::int64_t begin = 0;  ///< of the first action of the longest replica, nanoseconds
  double uneven = 0;       ///< seconds that the same takes if each action takes what it took, and messages nothing
  double measured = 0;     ///< seconds from that to the replica's last action's end
};

/// `ranks`: all of them, or those of one pipeline and its replicas. Messages take no time.
SimulatedStep simulate_step(const Recipe& recipe, const StageMap& map, std::span<const RankActions> ranks);

/// As a process of its own for a trace, a lane a rank of the pipeline.
std::string trace_events(const SimulatedStep& step, int pid);

}  // namespace fourmi
