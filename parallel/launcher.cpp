#include "parallel/launcher.h"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "kernels/runtime/error.h"

namespace fourmi {

LaunchInfo read_launcher() {
  return read_launcher([](const char* name) { return std::getenv(name); });
}

LaunchInfo read_launcher(const std::function<const char*(const char*)>& variable) {
  const auto first_of = [&](std::initializer_list<const char*> names, int otherwise) {
    for (const char* name : names) {
      const char* text = variable(name);
      if (!text) continue;
      int value = -1;
      const char* end = text + std::strlen(text);
      const auto [parsed, error] = std::from_chars(text, end, value);
      if (error != std::errc() || parsed != end || value < 0)
        throw Error(ExitStatus::environment, name, fmt::format("found '{}', expected a whole number", text),
                    "Start fourmi by mpirun or srun, or without a launcher");
      return value;
    }
    return otherwise;
  };
  LaunchInfo info;
  info.under_launcher = variable("PMIX_RANK") || variable("OMPI_COMM_WORLD_SIZE") || variable("PMI_RANK");
  if (!info.under_launcher) return info;
  info.rank = first_of({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}, 0);
  info.size = first_of({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}, 0);
  info.local_rank = first_of({"OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID", "MPI_LOCALRANKID"}, 0);
  info.local_size = first_of({"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"}, 0);
  return info;
}

}  // namespace fourmi
