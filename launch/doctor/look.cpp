#include "launch/doctor/look.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "framework/run/host.h"
#include "kernels/runtime/cuda_devices.h"
#include "launch/build_info.h"
#include "launch/in_path.h"

namespace fourmi::doctor {

namespace fs = std::filesystem;

namespace {

std::string system_name() {
  std::ifstream file("/etc/os-release");
  std::string line;
  constexpr std::string_view key = "PRETTY_NAME=";
  while (std::getline(file, line))
    if (line.starts_with(key)) {
      std::string name = line.substr(key.size());
      if (name.size() >= 2 && name.front() == '"') name = name.substr(1, name.size() - 2);
      return name;
    }
  return "unknown";
}

std::string kernel_name() {
  utsname name{};
  return ::uname(&name) == 0 ? fmt::format("{} {}", name.sysname, name.release) : "unknown";
}

int num_nvidia_devices() {
  int count = 0;
  for (; fs::exists(fmt::format("/dev/nvidia{}", count)); ++count) {
  }
  return count;
}

std::string cuda_driver() {
  std::ifstream file("/proc/driver/nvidia/version");
  std::string line;
  if (std::getline(file, line)) return line.substr(0, line.find("  ", 30));
  void* library = ::dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) return "none";
  ::dlclose(library);
  return "libcuda.so.1";
}

}  // namespace

void look_at_build(Facts& facts) {
  const BuildInfo& build = build_info();
  facts.push_back({"build", "version", build.version, Agree::must});
  facts.push_back({"build", "commit", build.commit, Agree::must});
  facts.push_back({"build", "type", build.build_type, Agree::must});
  facts.push_back({"build", "compiler", build.compiler, Agree::must});
  if (build.build_type != "Release") {
    facts.back().verdict = Verdict::note;
    facts.back().remedy = "A release build is several times faster: cmake --preset cpu, ninja -C build/cpu";
  }
  for (const auto& [name, version] : library_versions()) facts.push_back({"library", name, version, Agree::must});
  for (const auto& [name, value] : steering_environment()) {
    // What the launcher tells each rank of itself is no setting.
    const bool launchers = name.find("_ess_") != std::string::npos || name.find("_orte_") != std::string::npos;
    if (!launchers) facts.push_back({"environment", name, value, Agree::should});
  }
}

void look_at_system(Facts& facts, const LaunchInfo& launch) {
  facts.push_back({"system", "host", host_name()});
  facts.push_back({"system", "system", system_name(), Agree::should});
  facts.push_back({"system", "kernel", kernel_name(), Agree::should});
  facts.push_back({"system", "time", utc_time(now_seconds())});
  facts.push_back({"launcher", "ranks",
                   launch.under_launcher ? fmt::format("{} ({} on this host)", launch.size, launch.local_size)
                                         : "1, not under a launcher"});
  const std::string mpirun = in_path("mpirun");
  facts.push_back({"launcher", "mpirun", mpirun.empty() ? "none" : mpirun});
  if (mpirun.empty() && !launch.under_launcher) {
    facts.back().verdict = Verdict::note;
    facts.back().remedy = "For more than one rank: apt-get install -y --no-install-recommends openmpi-bin";
  }
  const int devices = num_nvidia_devices();
  facts.push_back({"device", "GPUs", devices == 0 ? "none" : fmt::format("{}", devices), Agree::should});
  facts.push_back({"device", "CUDA driver", cuda_driver(), Agree::should});
  const CudaDevices found = find_cuda_devices();
  facts.push_back({"device", "trains on",
                   found.count > 0 ? fmt::format("GPUs: {}", found.count) : fmt::format("cpu ({})", found.trouble),
                   Agree::should});
}

}  // namespace fourmi::doctor
