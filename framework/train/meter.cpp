#include "framework/train/meter.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "framework/run/host.h"

namespace fourmi {

Meter::Meter(const Recipe& recipe, const ModelCounts& counts, Group& group, const Stream& stream)
    : counts_(counts), bf16_(recipe.precision.compute != Compute::fp32), on_gpus_(stream.device()) {
  if (on_gpus_) return;
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
  for (const auto& [name, h] : hosts) {
    const bool bound = h.ranks > 1 && h.most * h.ranks == h.sum && h.most == 1;
    const MachinePeak p = host_peak(h.core, static_cast<int>(bound ? h.sum : h.most));
    peak_.fp32 += p.fp32;
    peak_.bf16 += p.bf16;
  }
}

double Meter::mfu(double tokens_per_second) const {
  if (on_gpus_) return 0;
  return (counts_.flops_per_token + counts_.flops_per_token_mtp) * tokens_per_second /
         (bf16_ ? peak_.bf16 : peak_.fp32);
}

double Meter::speed_of_light(double tokens_per_second) const {
  if (on_gpus_) return 0;
  const double all = counts_.flops_per_token + counts_.flops_per_token_mtp;
  const double fp32 = bf16_ ? counts_.flops_router : all;
  return peak_.ideal_seconds(fp32, all - fp32) * tokens_per_second;
}

}  // namespace fourmi
