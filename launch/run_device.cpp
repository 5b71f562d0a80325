#include "launch/run_device.h"

#include "framework/checkpoint/agree.h"
#include "framework/run/host.h"
#include "parallel/nccl/library.h"

namespace fourmi {

namespace {

enum class Wish : std::uint8_t { cpu, gpu };

/// The same on all ranks. `has`: there is a GPU for this rank; if not, `trouble` says why.
Wish agreed_wish(DeviceChoice choice, bool has, const std::string& trouble, const LaunchInfo& launch, Group& world) {
  if (choice == DeviceChoice::cpu) return Wish::cpu;
  std::int64_t ranks_with = has;
  world.all_sum(std::span(&ranks_with, 1));
  if (choice == DeviceChoice::automatic && ranks_with == 0) return Wish::cpu;
  agreed(world, [&] {
    if (has) return;
    throw Error(ExitStatus::environment, fmt::format("{}: run.device", host_name()),
                fmt::format("no GPU for rank {} (number {} of this host){}{}, one for each of {} ranks was expected",
                            world.rank(), launch.local_rank, trouble.empty() ? "" : ": ", trouble, world.size()),
                choice == DeviceChoice::cuda
                    ? "Use fewer ranks on this host, a build with CUDA (cmake --preset cuda), or "
                      "run.device: cpu"
                    : "Leave out this host, or set run.device: cpu or cuda");
  });
  return Wish::gpu;
}

/// What GPUs do not do yet.
void require_possible(const Recipe& recipe) {
  if (recipe.run.reproducibility == Reproducibility::layout)
    throw Error(ExitStatus::usage, "run.reproducibility",
                "layout was found on GPUs, run or none was expected: its exact sums are the CPU's alone",
                "Use run.reproducibility: run, or run.device: cpu");
}

}  // namespace

RunDevice::RunDevice(const Recipe& recipe, const LaunchInfo& launch, Group& world) {
  if (recipe.parallel.dispatcher == "device" && recipe.parallel.expert > 1) load_kernels_at_once();
  const CudaDevices found = recipe.run.device == DeviceChoice::cpu ? CudaDevices{} : find_cuda_devices();
  std::string trouble = found.trouble;
  if (found.count > 0) trouble = fmt::format("there are {} for {} ranks here", found.count, launch.local_size);
  if (agreed_wish(recipe.run.device, found.count > launch.local_rank, trouble, launch, world) == Wish::cpu) return;
  require_possible(recipe);
  agreed(world, [&] {
    runtime_ = open_cuda_device(launch.local_rank);
    stream_ = runtime_->make_stream();
    if (world.size() > 1) nccl::load();  // what is missing is said on all ranks
  });
  world.use_device(*stream_);
}

}  // namespace fourmi
