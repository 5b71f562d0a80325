#include "framework/train/meter.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "framework/run/gpu_peak.h"
#include "framework/run/host.h"

namespace fourmi {

namespace {

MachinePeak peak_of_gpus(Group& group, const std::string& name) {
  const MachinePeak mine = gpu_peak(name).value_or(MachinePeak{});
  std::vector<MachinePeak> all(static_cast<std::size_t>(group.size()));
  group.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  MachinePeak peak;
  for (const MachinePeak& p : all) {
    if (!p.is_known()) return {};
    peak += p;
  }
  return peak;
}

}  // namespace

MachinePeak peak_of(Group& group, const Stream& stream) {
  if (stream.device()) return peak_of_gpus(group, stream.device()->runtime().name());
  struct Machine {
    char boot[64];
    CorePeak core;
    std::int64_t cores;
  };
  Machine mine{};
  const std::string boot = this_process().boot;
  std::memcpy(mine.boot, boot.data(), std::min(boot.size(), sizeof(mine.boot)));
  mine.core = measure_core(stream.isa());
  mine.cores = usable_cores();
  std::vector<Machine> all(static_cast<std::size_t>(group.size()));
  group.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  // Ranks of one host: the fastest core that any of them saw, and the most cores that any may use (or, where a launcher
  // binds each rank to cores of its own, the cores of all).
  struct Host {
    CorePeak core;
    std::int64_t most = 0, sum = 0, ranks = 0;
  };
  std::map<std::string, Host> hosts;
  for (const Machine& m : all) {
    Host& h = hosts[std::string(m.boot, sizeof(m.boot))];
    h.core.fp32 = std::max(h.core.fp32, m.core.fp32);
    h.core.bf16 = std::max(h.core.bf16, m.core.bf16);
    h.most = std::max(h.most, m.cores);
    h.sum += m.cores;
    ++h.ranks;
  }
  MachinePeak peak;
  for (const auto& [name, h] : hosts) {
    const bool bound = h.ranks > 1 && h.most * h.ranks == h.sum && h.most == 1;
    peak += host_peak(h.core, static_cast<int>(bound ? h.sum : h.most));
  }
  return peak;
}

Meter::Meter(const Recipe& recipe, const ModelCounts& counts, const MachinePeak& peak)
    : counts_(counts), compute_(recipe.precision.compute), peak_(peak) {}

double Meter::mfu(double tokens_per_second) const {
  if (!peak_.is_known()) return 0;
  const double peak = is_fp8(compute_) ? peak_.fp8 : compute_ == Compute::bf16 ? peak_.bf16 : peak_.fp32;
  return (counts_.flops_per_token + counts_.flops_per_token_mtp) * tokens_per_second / peak;
}

double Meter::speed_of_light(double tokens_per_second) const {
  if (!peak_.is_known()) return 0;
  const double all = counts_.flops_per_token + counts_.flops_per_token_mtp;
  const double fp32 = compute_ == Compute::bf16 || is_fp8(compute_) ? counts_.flops_router : all;
  const double fp8 = is_fp8(compute_) ? counts_.flops_scaled : 0;
  return peak_.ideal_seconds(fp32, all - fp32 - fp8, fp8) * tokens_per_second;
}

}  // namespace fourmi
