#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <numeric>

#include "kernels/runtime/cuda_devices.h"
#include "kernels/runtime/error.h"
#include "launch/gpu_check/nccl.h"
#include "parallel/nccl/library.h"
#include "parallel/world.h"

namespace fourmi::gpu_check {

namespace {

constexpr int shares_a_gpu = 23000;  // NCCL's version from which several ranks may have one GPU

std::string text_of_version(int version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

/// Figures by a way of their own; what was standard output goes where errors do.
Tell tell_apart() {
  std::FILE* const figures = ::fdopen(::dup(STDOUT_FILENO), "w");
  if (!figures || ::dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
    throw Error(ExitStatus::environment, "standard output", "it is closed, a way to tell figures was expected");
  return [figures](const ordered_json& figure) {
    std::fputs((figure.dump() + "\n").c_str(), figures);
    std::fflush(figures);
  };
}

/// Why ranks of this machine cannot have NCCL; empty: they can.
std::string lacking(bool shared, int& version) {
  try {
    nccl::load()->get_version(&version);
  } catch (const Error& error) {
    return error.cause();
  }
  if (shared && version < shares_a_gpu)
    return fmt::format("NCCL {} lets no ranks share a GPU, 2.30 does", text_of_version(version));
  return {};
}

}  // namespace

void run_nccl_rank() {
  // mpirun gives each rank a process group of its own, which the check does not know.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const Tell tell = tell_apart();
  World world;
  Group& all = world.group();
  if (all.size() < 2)
    throw Error(ExitStatus::usage, "--part nccl", "one rank was found, several under mpirun were expected");
  const CudaDevices found = find_cuda_devices();
  const bool shared = found.count < all.size();
  int version = 0;
  const std::string why = lacking(shared, version);
  std::int64_t without = !why.empty();
  all.all_sum(std::span(&without, 1));
  if (without > 0) {
    if (all.rank() == 0)
      tell({{"absent", !why.empty() ? why : fmt::format("NCCL is missing on {} of {} ranks", without, all.size())}});
    return;
  }
  // One GPU, or one each: never some shared and some not.
  const std::unique_ptr<DeviceRuntime> device = open_cuda_device(shared ? 0 : world.launch().local_rank);
  const std::unique_ptr<DeviceStream> stream = device->make_stream();
  std::vector<int> ranks(static_cast<std::size_t>(all.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  const std::unique_ptr<Group> group = all.subgroup("nccl", ranks);  // ends before its stream
  if (all.rank() == 0) tell({{"name", "NCCL"}, {"version", text_of_version(version)}, {"ranks", all.size()}});
  tell_nccl(*group, *stream, {.large = std::int64_t{shared ? 64 : 256} << 20, .seconds = 1}, tell);
}

}  // namespace fourmi::gpu_check
