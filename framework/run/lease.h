// One run a directory: rank 0 holds a lease on run.directory while it runs.
//
// The folder `lease/` holds one file a launch, `000007.json`, whose number is the fencing epoch. A launch links a
// complete file under the next number, which succeeds for exactly one of many; the highest number owns the directory.
// The owner touches its file every few seconds and renames it to `000007.released.json` at an orderly end.
//
// A launch on the owner's machine asks the process table: a killed owner is replaced at once, a stopped one (SIGSTOP)
// is not. A launch elsewhere goes by the last touch. Both times that it compares come from the directory's file system,
// so clocks may differ.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "framework/run/host.h"

namespace fourmi {

struct LeaseOptions {
  std::chrono::milliseconds heartbeat{5000};
  std::chrono::seconds foreign_timeout{
      60};  ///< an owner on another machine is dead when its file was not touched for so long
  /// An owner on this machine may be dying of a kill -9 just given (its memory takes time to go): so long it is looked
  /// at again.
  std::chrono::milliseconds dying_patience{1000};
  ProcessIdentity process = this_process();  ///< tests pretend to be another machine
};

class Lease {
 public:
  /// Makes the directory if need be. Throws Error(environment) within about a second, naming host, process and since
  /// when, if a live launch owns it.
  static std::unique_ptr<Lease> acquire(const std::filesystem::path& directory, LeaseOptions options = {});
  /// Releases.
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  /// Grows with every launch; a name for what only this launch may write.
  std::int64_t epoch() const;
  /// Did another launch take the directory over (because this process slept too long)? Known within a heartbeat.
  bool lost() const;
  /// Throws Error(environment) naming the new owner if the lease was lost. Looks again first if the last heartbeat is
  /// late, so that a process that wakes from a long sleep does not write before it knows: call it before every commit.
  void check();
  /// Also for a process that is about to end in another way than by destructors. Does nothing the second time.
  void release();

 private:
  struct State;
  explicit Lease(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace fourmi
