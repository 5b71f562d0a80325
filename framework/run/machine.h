// What this machine could do: the limit that `mfu` and `speed_of_light` are measured against.
//
// The limit of the CPU is measured, that of GPUs looked up (gpu_peak.h): a loop of independent fused multiply-adds that
// never leaves the registers (24 vectors of AVX-512, 12 of AVX2; for bf16 the instruction vdpbf16ps, two products a
// lane), in slices of a fraction of a millisecond, of which the fastest counts. So ranks that share a core, or a busy
// neighbour, do not lower it.
//
// mfu: needed work (fourmi train --dry-run: flops_per_token, + flops_per_token_mtp) * tokens/s / peak of the compute
// dtype. speed_of_light: ideal_seconds of the needed work, each part at the peak of the dtype that it is done in, /
// measured seconds. Both are against all cores that the job may use, whatever number of threads it uses.
#pragma once

#include <chrono>

#include "kernels/runtime/stream.h"

namespace fourmi {

struct CorePeak {
  double fp32 = 0, bf16 = 0;  ///< floating-point operations a second of one core; a multiply-add counts two
};

/// Measures for about `budget`. Where bf16 has no instruction, or a slower one, it is computed in fp32, and
/// the peaks are equal.
CorePeak measure_core(Isa isa, std::chrono::milliseconds budget = std::chrono::milliseconds(50));

/// Cores that this process may use: of its affinity mask, siblings of one core counted once, at most the container's
/// CPU quota (rounded up). At least 1.
int usable_cores();

/// The machines of a job together.
struct MachinePeak {
  double fp32 = 0, bf16 = 0, fp8 = 0;  ///< floating-point operations a second
  bool is_known() const { return fp32 > 0 && bf16 > 0 && fp8 > 0; }
  /// Shortest time for the work.
  double ideal_seconds(double flops_fp32, double flops_bf16, double flops_fp8) const {
    return flops_fp32 / fp32 + flops_bf16 / bf16 + flops_fp8 / fp8;
  }
  MachinePeak& operator+=(const MachinePeak& o) {
    fp32 += o.fp32, bf16 += o.bf16, fp8 += o.fp8;
    return *this;
  }
};

/// One host's share: its cores (the greatest usable_cores() of its ranks, or their sum where a launcher binds ranks to
/// cores of their own) times one core's peak. Cores multiply FP8 by their bf16 units.
inline MachinePeak host_peak(const CorePeak& core, int cores) {
  return {core.fp32 * cores, core.bf16 * cores, core.bf16 * cores};
}

}  // namespace fourmi
