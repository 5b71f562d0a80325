// `fourmi bench kernels`: the operations of a step at the sizes of a small model, each beside its limit; products of
// FP8 also as a multiple of the speed of the same in bf16.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>

#include "launch/bench/bench.h"
#include "launch/bench/kernel_cases.h"

namespace fourmi::bench {

namespace {

using Clock = std::chrono::steady_clock;

struct Measured {
  const KernelCase* kernel;
  Spread seconds;
  std::size_t repeats;
  double beside = 0;                 ///< median seconds of the same in bf16; 0: not asked for
  double per_second = 0, limit = 0;  ///< flops or bytes
};

Measured measure(const KernelCase& kernel, const Stream& stream, double budget, LimitMeter& meter) {
  std::vector<double> times, beside;
  const auto seconds = [&](const std::function<void(const Stream&)>& run) {
    const Clock::time_point begin = Clock::now();
    run(stream);
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  kernel.run(stream);  // scratch grows, memory is touched
  const Clock::time_point start = Clock::now();
  do {
    meter.measure(kernel.flops == 0);
    // A few in a row, at most some milliseconds: then the limit again.
    const Clock::time_point round = Clock::now();
    do {
      times.push_back(seconds(kernel.run));
      if (kernel.beside) beside.push_back(seconds(kernel.beside));
    } while (Clock::now() - round < std::chrono::milliseconds(20));
  } while (std::chrono::duration<double>(Clock::now() - start).count() < budget || times.size() < 5);
  const std::size_t repeats = times.size();
  return {&kernel, spread_of(std::move(times)), repeats, kernel.beside ? spread_of(std::move(beside)).median : 0.0};
}

void print(const std::vector<Measured>& rows, const Limits& limits, int threads, const Stream& stream, bool json) {
  if (json) {
    nlohmann::ordered_json j;
    j["threads"] = threads;
    j["instruction_set"] = name_of(stream.isa());
    j["limit_flops_bf16"] = limits.bf16;
    j["limit_flops_fp32"] = limits.fp32;
    j["limit_bytes"] = limits.bytes;
    j["kernels"] = nlohmann::ordered_json::array();
    for (const Measured& m : rows) {
      j["kernels"].push_back({{"name", m.kernel->name},
                              {"shape", m.kernel->shape},
                              {"repeats", m.repeats},
                              {"median_seconds", m.seconds.median},
                              {"low_seconds", m.seconds.low},
                              {"high_seconds", m.seconds.high},
                              {m.kernel->flops > 0 ? "flops_per_second" : "bytes_per_second", m.per_second},
                              {"share_of_limit", m.per_second / m.limit}});
      if (m.beside > 0) j["kernels"].back()["bf16_median_seconds"] = m.beside;
    }
    std::cout << j << "\n";
    return;
  }
  std::cout << fmt::format(
      "{} thread(s), {}; limits: {:.0f} GFLOP/s bf16, {:.0f} fp32 (registers only), {:.1f} GB/s (y += a x)\n", threads,
      name_of(stream.isa()), limits.bf16 * 1e-9, limits.fp32 * 1e-9, limits.bytes * 1e-9);
  std::cout << fmt::format("{:<34} {:<36} {:>10} {:>21} {:>16} {:>7} {:>8}\n", "operation", "shape", "median ms",
                           "spread ms", "", "limit", "to bf16");
  for (const Measured& m : rows)
    std::cout << fmt::format("{:<34} {:<36} {:>10.3f} {:>9.3f} .. {:>8.3f} {:>8.1f} {:<7} {:>6.0f}%{}\n",
                             m.kernel->name, m.kernel->shape, m.seconds.median * 1e3, m.seconds.low * 1e3,
                             m.seconds.high * 1e3, m.per_second * 1e-9, m.kernel->flops > 0 ? "GFLOP/s" : "GB/s",
                             100 * m.per_second / m.limit,
                             m.beside > 0 ? fmt::format(" {:>8.2f}", m.beside / m.seconds.median) : "");
}

}  // namespace

void run_kernels(const KernelOptions& options) {
  ThreadPool pool(options.threads);
  const Stream stream(pool);
  const KernelCases cases(CaseSizes::of_a_cpu(), stream);
  LimitMeter meter(stream);
  std::vector<Measured> rows;
  std::string names;
  for (const KernelCase& kernel : cases.all()) {
    names += (names.empty() ? "" : ", ") + kernel.name;
    if (kernel.name.find(options.only) != std::string::npos)
      rows.push_back(measure(kernel, stream, options.seconds, meter));
  }
  if (rows.empty())
    throw Error(ExitStatus::usage, "--only", fmt::format("found {}, expected part of one of {}", options.only, names));
  if (meter.limits().bytes == 0) meter.measure(true);
  const Limits& limits = meter.limits();  // the same for all rows: the highest that was seen
  for (Measured& m : rows) {
    m.per_second = (m.kernel->flops > 0 ? m.kernel->flops : m.kernel->bytes) / m.seconds.median;
    m.limit = m.kernel->flops == 0 ? limits.bytes : m.kernel->bf16 ? limits.bf16 : limits.fp32;
  }
  print(rows, limits, options.threads, stream, options.json);
}

}  // namespace fourmi::bench
