#include "launch/gpu_check/speeds.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "kernels/ops/copy.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/reduce.h"
#include "launch/bench/bench.h"

namespace fourmi::gpu_check {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// One round of so many calls; the host waits once.
double round_of(const Stream& stream, const std::function<void(const Stream&)>& run, std::int64_t calls) {
  stream.synchronize();
  const Clock::time_point begin = Clock::now();
  for (std::int64_t i = 0; i < calls; ++i) run(stream);
  stream.synchronize();
  return seconds_since(begin);
}

Arena arena_of(const Stream& stream, std::int64_t bytes) {
  return Arena({.name = "gpu-check", .device = stream.device() ? &stream.device()->runtime() : nullptr}, bytes);
}

}  // namespace

Timing time_of(const Stream& stream, const std::function<void(const Stream&)>& run, const TimingBudget& budget) {
  round_of(stream, run, 1);  // kernels are loaded, scratch grows
  const double once = round_of(stream, run, 1);
  const auto calls = std::max<std::int64_t>(1, static_cast<std::int64_t>(budget.round / std::max(once, 1e-7)));
  std::vector<double> rounds;
  const Clock::time_point begin = Clock::now();
  do {
    rounds.push_back(round_of(stream, run, calls) / static_cast<double>(calls));
  } while (rounds.size() < 3 || seconds_since(begin) < budget.seconds);
  const std::int64_t all = calls * static_cast<std::int64_t>(rounds.size());
  const bench::Spread spread = bench::spread_of(std::move(rounds));
  return {spread.median, spread.low, spread.high, all};
}

Ceilings measure_ceilings(const Stream& stream, const CeilingSizes& sizes, const UseLibraries& use) {
  Ceilings ceilings;
  {
    Arena arena = arena_of(stream, 2 * sizes.copy_bytes);
    const Tensor from = arena.allocate({sizes.copy_bytes}, DType::u8, "copy"),
                 to = arena.allocate({sizes.copy_bytes}, DType::u8, "copy");
    const Timing t = time_of(
        stream, [&](const Stream& s) { copy(s, from, to); }, sizes.budget);
    ceilings.copy = 2.0 * static_cast<double>(sizes.copy_bytes) / t.low;
  }
  const std::int64_t n = sizes.matrix;
  const bench::CaseSizes one = bench::CaseSizes::product_alone(n, n, n);
  const bool by_library = use && use(true);
  const bench::KernelCases cases(one, stream);
  for (const bench::KernelCase& kernel : cases.all()) {
    if (kernel.name != "linear_forward") continue;
    const Timing t = time_of(stream, kernel.run, sizes.budget);
    ceilings.matrix = kernel.flops / t.low;
    ceilings.matrix_by = by_library ? "cuBLASLt" : "fourmi's linear_forward";
  }
  return ceilings;
}

void tell_ceilings(const Stream& stream, const CeilingSizes& sizes, const UseLibraries& use, const Tell& tell) {
  tell({{"begin", "ceilings"}, {"number", -1}});
  const Ceilings c = measure_ceilings(stream, sizes, use);
  tell({{"name", "copy"}, {"bytes_per_second", c.copy}, {"bytes", sizes.copy_bytes}, {"counted", "read and written"}});
  tell({{"name", "matrix"}, {"flops_per_second", c.matrix}, {"size", sizes.matrix}, {"by", c.matrix_by}});
}

}  // namespace fourmi::gpu_check
