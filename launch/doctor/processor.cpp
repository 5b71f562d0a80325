#include <fmt/format.h>
#include <sched.h>

#include <fstream>
#include <string>
#include <thread>

#include "framework/run/machine.h"
#include "launch/doctor/look.h"

namespace fourmi::doctor {

namespace {

std::string model_name() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line))
    if (line.starts_with("model name")) {
      const std::size_t colon = line.find(':');
      return colon == std::string::npos ? "unknown" : line.substr(colon + 2);
    }
  return "unknown";
}

std::string quota() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string most;
  double period = 0;
  if (file >> most >> period && most != "max" && period > 0)
    return fmt::format("{:.3g} CPUs", std::stod(most) / period);
  return "none";
}

}  // namespace

void look_at_processor(Facts& facts, const LaunchInfo& launch) {
  facts.push_back({"processor", "model", model_name(), Agree::should});
  std::string sets;
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512})
    if (has_isa(isa)) sets += fmt::format("{}{}", sets.empty() ? "" : " ", fourmi::name_of(isa));
  facts.push_back({"processor", "instruction sets", sets, Agree::should});
  facts.push_back({"processor", "logical CPUs", fmt::format("{}", std::thread::hardware_concurrency())});
  facts.push_back({"processor", "quota", quota()});
  const int cores = usable_cores();
  facts.push_back({"processor", "usable cores", fmt::format("{}", cores), Agree::should});
  if (launch.local_size > cores) {
    facts.back().verdict = Verdict::note;
    facts.back().remedy = fmt::format(
        "{} ranks share {} cores: launch/mpirun makes them yield, a plain mpirun needs --mca mpi_yield_when_idle 1",
        launch.local_size, cores);
  }
}

}  // namespace fourmi::doctor
