// What runs in a process of its own on a device: its ceilings, and each operation beside them.
#pragma once

#include "kernels/runtime/stream.h"
#include "launch/bench/kernel_cases.h"
#include "launch/gpu_check/figures.h"

namespace fourmi::gpu_check {

/// Seconds of one call: medians over rounds of many, each long enough that starting and waiting do not count.
struct Timing {
  double median = 0, low = 0, high = 0;
  std::int64_t calls = 0;
};
struct TimingBudget {
  double seconds = 0.3;  ///< of all rounds
  double round = 0.02;   ///< of one
};
Timing time_of(const Stream& stream, const std::function<void(const Stream&)>& run, const TimingBudget& budget);

struct CeilingSizes {
  std::int64_t copy_bytes = std::int64_t{2} << 30;  ///< of each of two buffers
  std::int64_t matrix = 8192;                       ///< rows and columns of the three matrices
  TimingBudget budget{1.0, 0.05};
};
struct Ceilings {
  double copy = 0;        ///< bytes a second, those read and those written counted
  double matrix = 0;      ///< bf16 floating-point operations a second
  std::string matrix_by;  ///< whose product that is
};
/// Products by NVIDIA's library (true) or ours (false); false where there is no library. Empty: there is none.
using UseLibraries = std::function<bool(bool use)>;
Ceilings measure_ceilings(const Stream& stream, const CeilingSizes& sizes, const UseLibraries& use);

/// The part `ceilings`.
void tell_ceilings(const Stream& stream, const CeilingSizes& sizes, const UseLibraries& use, const Tell& tell);

/// The part `kernels`: cases from number `from` on, between two measurements of the ceilings. A case that throws is
/// told with its error, and the next one follows.
struct KernelRun {
  bench::CaseSizes cases;
  CeilingSizes ceilings;
  TimingBudget budget;
  std::int64_t from = 0;
  UseLibraries use_libraries = {};
};
void tell_kernels(const Stream& stream, const KernelRun& run, const Tell& tell);

}  // namespace fourmi::gpu_check
