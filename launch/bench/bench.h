// `fourmi bench`: figures beside what the machine could do, measured in the same process, in turn with what is timed.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/runtime/stream.h"

namespace fourmi::bench {

/// What the pool's threads reach together, from loops that do nothing else.
struct Limits {
  double bf16 = 0, fp32 = 0;  ///< floating-point operations a second, from registers; a multiply-add counts two
  double bytes = 0;           ///< bytes a second of y += a x in memory: two reads and a write
};

/// Measures the limits again whenever asked, and keeps the highest: a busy neighbour lowers no limit.
class LimitMeter {
 public:
  explicit LimitMeter(const Stream& stream);
  /// A slice of some milliseconds of registers, and of memory where `memory` is set.
  void measure(bool memory);
  const Limits& limits() const { return limits_; }

 private:
  Stream stream_;
  Limits limits_;
  std::vector<float> x_, y_;
};

/// Of a list of durations.
struct Spread {
  double median = 0, low = 0, high = 0;  ///< low and high: the tenth and the ninetieth of a hundred
};
Spread spread_of(std::vector<double> values);

struct KernelOptions {
  std::string only;      ///< part of the names to be run; empty: all
  double seconds = 0.3;  ///< of repeating, for each
  int threads = 1;
  bool json = false;
};
void run_kernels(const KernelOptions& options);

struct StepOptions {
  std::string recipe;
  std::vector<std::string> overrides;
  int steps = 5, warm_up = 1;
  bool json = false;
};
void run_step(const StepOptions& options);

struct CommOptions {
  double seconds = 0.2;  ///< of repeating, for each size
  bool json = false;
};
/// Under a launcher collective over all ranks; rank 0 prints.
void run_comm(const CommOptions& options);

}  // namespace fourmi::bench
