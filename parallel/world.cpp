#include "parallel/world.h"

#include <unistd.h>

#include <cstdio>
#include <exception>

#include "kernels/runtime/error.h"

namespace fourmi {

World::World(const LaunchInfo& launch, const MpiOptions& options)
    : launch_(launch), exceptions_(std::uncaught_exceptions()) {
  if (!launch_.under_launcher) {
    group_ = make_self_group("world");
    return;
  }
  mpi_ = std::make_unique<MpiProcess>();
  const int size = mpi_->size();
  // A launcher of another kind starts N processes that each see themselves alone: N runs in one directory.
  if (launch_.size != 0 && size != launch_.size)
    throw Error(ExitStatus::environment, "launcher",
                fmt::format("MPI sees {} ranks, expected the {} that the launcher started", size, launch_.size),
                "Start fourmi by the mpirun of the MPI that it was built with, or by srun --mpi=pmix");
  launch_.size = size;
  launch_.rank = mpi_->rank();
  const MpiProcess::Local local = mpi_->local();
  launch_.local_rank = local.rank;
  launch_.local_size = local.size;
  group_ = make_mpi_group("world", *mpi_, options);
}

World::~World() {
  if (mpi_ && (std::uncaught_exceptions() > exceptions_ || group_->cancelled())) {
    group_->cancel("a rank ends with an error");
    mpi_->abandon();
  }
}

void World::abandon(const std::string& reason) {
  if (mpi_) mpi_->abandon();
  group_->cancel(reason);
}

void World::end_process(int exit_status) {
  std::fflush(stdout);
  std::fflush(stderr);
  _exit(exit_status);
}

}  // namespace fourmi
