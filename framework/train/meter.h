// What the work costs and what the machine could do: tokens a second, mfu, speed of light (definitions:
// framework/run/machine.h).
#pragma once

#include "framework/model/counts.h"
#include "framework/run/machine.h"
#include "kernels/runtime/stream.h"
#include "parallel/group.h"

namespace fourmi {

/// Collective: what the machines of the group could do together. On the CPU each rank measures its core; of GPUs, one a
/// rank, it is looked up by name (gpu_peak.h), and 0 where one of them is not known.
MachinePeak peak_of(Group& group, const Stream& stream);

class Meter {
 public:
  Meter(const Recipe& recipe, const ModelCounts& counts, const MachinePeak& peak);

  /// Both are 0 where the peak is not known.
  double mfu(double tokens_per_second) const;
  double speed_of_light(double tokens_per_second) const;
  const MachinePeak& peak() const { return peak_; }

 private:
  ModelCounts counts_;
  Compute compute_;
  MachinePeak peak_;
};

}  // namespace fourmi
