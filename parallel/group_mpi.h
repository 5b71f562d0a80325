// The MPI back end: host memory, point-to-point messages only, each polled to its end, so that every wait can be
// cancelled (MPI's own collectives cannot be). mpi.h stays in group_mpi.cpp.
//
// Threads: MPI_THREAD_SERIALIZED is asked for. All calls of this process go one at a time through one lock, held for
// one short call: the rank's main thread moves data, and the watchdog's thread may cancel. Open MPI has no progress
// thread: messages move while some wait polls.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>

#include "parallel/group.h"

namespace fourmi {

struct MpiOptions {
  /// Longer messages travel in pieces of this size (MPI counts are ints). Equal on all ranks.
  std::size_t max_message_bytes = std::size_t{1} << 30;
};

/// MPI's life in this process; one object a process, through World.
class MpiProcess {
 public:
  MpiProcess();
  ~MpiProcess();  ///< MPI_Finalize, unless abandoned
  MpiProcess(const MpiProcess&) = delete;
  MpiProcess& operator=(const MpiProcess&) = delete;

  void abandon();  ///< a peer is lost: never finalize, which would wait for it
  int rank() const;
  int size() const;
  struct Local {
    int rank, size;
  };
  Local local() const;  ///< rank and size among the processes of this host; collective
  const std::shared_ptr<std::mutex>& lock() const { return lock_; }  ///< held around every call of MPI

 private:
  std::shared_ptr<std::mutex> lock_ = std::make_shared<std::mutex>();
  std::atomic<bool> abandoned_{false};
};

/// All ranks of MPI_COMM_WORLD. Collective. `process` outlives the group.
std::unique_ptr<Group> make_mpi_group(std::string name, const MpiProcess& process, const MpiOptions& options = {});

}  // namespace fourmi
