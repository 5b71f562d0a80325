// All ranks of a run. Owns MPI's start and end; without a launcher there is one rank and MPI is not touched (Open MPI
// would fork a daemon and look for ssh).
#pragma once

#include <memory>
#include <string>

#include "parallel/group.h"
#include "parallel/group_mpi.h"
#include "parallel/launcher.h"

namespace fourmi {

class World {
 public:
  /// Throws Error(environment) where MPI does not see the ranks that the launcher started.
  explicit World(const LaunchInfo& launch = read_launcher(), const MpiOptions& options = {});
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  /// Finalizes MPI, which waits for all ranks; not after abandon(), nor when the group was
  /// cancelled, nor while an exception passes.
  ~World();

  Group& group() { return *group_; }
  int rank() const { return launch_.rank; }
  int size() const { return launch_.size; }
  const LaunchInfo& launch() const { return launch_; }  ///< complete: MPI has filled what the launcher left open

  /// Poisons the world's group and all groups made of it; this process will end without MPI_Finalize. Any thread.
  void abandon(const std::string& reason);

  /// Ends this process at once, without MPI_Finalize, destructors or exit handlers (they may wait for the peer that is
  /// lost, or for a thread that is stuck in MPI). Standard output and error are flushed. Any thread.
  [[noreturn]] static void end_process(int exit_status);

 private:
  LaunchInfo launch_;
  std::unique_ptr<MpiProcess> mpi_;  // before group_: it outlives it
  std::unique_ptr<Group> group_;
  int exceptions_;
};

}  // namespace fourmi
