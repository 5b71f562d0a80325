// What the work costs and what the machine could do: tokens a second, mfu, speed of light (definitions:
// framework/run/machine.h).
#pragma once

#include "framework/model/counts.h"
#include "framework/run/machine.h"
#include "kernels/runtime/stream.h"
#include "parallel/group.h"

namespace fourmi {

class Meter {
 public:
  /// Collective: measures each rank's core and adds up the machines of the group. On GPUs, whose limits a run does not
  /// measure (fourmi gpu-check does), both figures are 0.
  Meter(const Recipe& recipe, const ModelCounts& counts, Group& group, const Stream& stream);

  double mfu(double tokens_per_second) const;
  double speed_of_light(double tokens_per_second) const;
  const MachinePeak& peak() const { return peak_; }

 private:
  ModelCounts counts_;
  bool bf16_, on_gpus_;
  MachinePeak peak_;
};

}  // namespace fourmi
