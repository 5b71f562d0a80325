#include <algorithm>
#include <chrono>
#include <mutex>

#include "framework/run/machine.h"
#include "launch/bench/bench.h"

namespace fourmi::bench {

namespace {
using Clock = std::chrono::steady_clock;
constexpr std::int64_t memory_elements = std::int64_t{32} << 20;  // of x and of y: beyond every cache

void add_scaled(float a, const float* x, float* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] += a * x[i];
}
}  // namespace

LimitMeter::LimitMeter(const Stream& stream) : stream_(stream) {}

void LimitMeter::measure(bool memory) {
  std::mutex mutex;
  CorePeak all;
  const int threads = stream_.pool().num_threads();
  // Every thread measures at the same time: cores that share a clock or a core are not counted for what each could do
  // alone.
  stream_.pool().parallel_for(threads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const CorePeak one = measure_core(stream_.isa(), std::chrono::milliseconds(6));
      std::lock_guard lock(mutex);
      all.fp32 += one.fp32;
      all.bf16 += one.bf16;
    }
  });
  limits_.fp32 = std::max(limits_.fp32, all.fp32);
  limits_.bf16 = std::max(limits_.bf16, all.bf16);
  if (!memory) return;
  if (x_.empty()) x_.assign(memory_elements, 1.0F), y_.assign(memory_elements, 0.0F);
  const Clock::time_point start = Clock::now();
  stream_.pool().parallel_for(memory_elements, 1 << 16, [&](std::int64_t begin, std::int64_t end) {
    add_scaled(0.5F, x_.data() + begin, y_.data() + begin, end - begin);
  });
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  limits_.bytes = std::max(limits_.bytes, 3.0 * sizeof(float) * static_cast<double>(memory_elements) / seconds);
}

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1) + 0.5)];
  };
  return {at(0.5), at(0.1), at(0.9)};
}

}  // namespace fourmi::bench
