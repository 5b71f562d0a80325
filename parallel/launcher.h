// What the launcher (mpirun, srun) said about this process. This is the one place that reads its environment variables;
// they say where a rank runs, never what it computes.
#pragma once

#include <functional>

namespace fourmi {

struct LaunchInfo {
  int rank = 0, size = 1;              ///< of all processes; size is 0 where the launcher does not say (World asks MPI)
  int local_rank = 0, local_size = 1;  ///< among those of this host
  bool under_launcher = false;         ///< only then is MPI initialised
};

/// Open MPI's mpirun (OMPI_COMM_WORLD_*), PMIx (PMIX_RANK: srun --mpi=pmix), PMI (PMI_RANK). Throws Error(environment)
/// if a variable is not a number. `variable` stands in for the environment in tests; it returns null for what is not
/// set.
LaunchInfo read_launcher();
LaunchInfo read_launcher(const std::function<const char*(const char*)>& variable);

}  // namespace fourmi
