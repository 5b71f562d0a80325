#include <fmt/format.h>
#include <unistd.h>

#include "framework/run/machine.h"
#include "kernels/runtime/cuda_card.h"
#include "kernels/runtime/cuda_devices.h"
#include "launch/gpu_check/exchange.h"
#include "launch/gpu_check/nccl.h"
#include "launch/gpu_check/speeds.h"
#include "launch/gpu_check/table.h"

namespace fourmi::gpu_check {

void measure_here(const std::string& name, std::int64_t from) {
  if (name == "probe") {
    const CudaDevices found = find_cuda_devices();
    tell_parent({{"name", "probe"}, {"count", found.count}, {"trouble", found.trouble}});
    if (found.count > 0) open_cuda_device(0);
    return;
  }
  if (name == "facts") {
    for (const auto& [what, value] : cuda_card_facts(0)) tell_parent({{"name", what}, {"value", value}});
    return;
  }
  if (name == "nccl") return run_nccl_rank();
  const bool ceilings = name == "ceilings", exchange = name == "exchange";
  if (!ceilings && !exchange && name != "kernels")
    throw Error(ExitStatus::usage, "--part",
                fmt::format("found {}, expected probe, facts, nccl, ceilings, exchange or kernels", name));
  if (exchange) load_kernels_at_once();
  const std::unique_ptr<DeviceRuntime> device = open_cuda_device(0);
  const std::unique_ptr<DeviceStream> card = device->make_stream();
  ThreadPool pool(usable_cores());
  const Stream stream(*card, pool);
  const UseLibraries use = [&](bool on) { return use_cuda_libraries(*card, on); };
  if (exchange) return tell_exchange(*device, {}, from, use, tell_parent);
  if (ceilings) return tell_ceilings(stream, {}, use, tell_parent);
  tell_kernels(
      stream, {.cases = bench::CaseSizes::of_a_gpu(), .ceilings = {}, .budget = {}, .from = from, .use_libraries = use},
      tell_parent);
}

void require_gpu(const Places& places) {
  constexpr double limit = 60;
  const ChildEnd end = run_child({places.program, "gpu-check", "--part", "probe"}, {.seconds = limit});
  const Figures figures = read_figures(end.output, true);
  const std::string remedy =
      "Run it on a machine with an NVIDIA GPU of compute capability 9.0 (Hopper), its driver, and a build with CUDA "
      "(cmake --preset cuda); nvidia-smi and fourmi doctor say what the machine has";
  const auto missing = [&](const std::string& why) {
    return Error(ExitStatus::environment, "gpu-check",
                 fmt::format("no GPU to check was found ({}), one was expected", why), remedy);
  };
  if (figures.lines.empty()) throw missing(fmt::format("looking for it {}: {}", describe(end), last_words(end, 300)));
  const ordered_json& probe = figures.lines.front();
  if (probe.value("count", 0) == 0) throw missing(probe.value("trouble", ""));
  if (!end.well()) throw missing(fmt::format("opening it {}: {}", describe(end), last_words(end, 300)));
}

}  // namespace fourmi::gpu_check
