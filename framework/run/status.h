// status.json: the truth about a run, whatever a launcher says of its exit status (docs/run-directory.md).
//
// Every call may come from any thread, and none waits for another thread's disk: a watchdog writes the final status
// although the main thread is stuck, even stuck in this class. Any rank may write the final status; rank 0 alone writes
// the running one.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "framework/run/device_time.h"
#include "kernels/runtime/error.h"

namespace fourmi {

enum class RunState { running, done, stopped, failed };

/// The state that an exit status means: done for 0, stopped for 6 and 8, else failed.
RunState state_of(ExitStatus status);

/// How a launch ended. `rank` and `host` are those that the cause is about, nothing where it is about all.
struct Ending {
  ExitStatus exit_status = ExitStatus::ok;
  std::optional<int> rank;
  std::string host, cause, place, remedy;

  static Ending of(const Error& error, int rank, std::string host);
};

class StatusFile {
 public:
  /// Writes nothing yet. `launch` is the number of this launch: a status of a later launch is never overwritten.
  StatusFile(const std::filesystem::path& run_directory, std::int64_t launch,
             std::chrono::milliseconds period = std::chrono::seconds(10));
  ~StatusFile();
  StatusFile(const StatusFile&) = delete;
  StatusFile& operator=(const StatusFile&) = delete;

  /// What this rank does now (start, load, forward, backward, optimizer, save, ...). `name` must live for ever: a
  /// literal. Costs a store.
  void set_phase(const char* name) noexcept;
  const char* phase() const noexcept;
  /// The last step that is complete.
  void set_step(std::int64_t step) noexcept;
  std::int64_t step() const noexcept;
  std::int64_t launch() const noexcept;
  /// The newest committed checkpoint.
  void set_checkpoint(const std::string& path);
  /// Before the first tick: from now on every status says what the run has used up.
  void set_device_time(const DeviceTime& time);

  /// Rank 0, often: writes state `running` if the period has passed (always the first time). A status that cannot be
  /// written ends no run; the result says whether it is up to date.
  bool tick() noexcept;

  /// The end, on disk when it returns true. A cause that another rank of this launch wrote stays, unless it only says
  /// that a rank was lost. On a full disk the old file is overwritten in place. Later calls, and ticks, do nothing.
  bool write_final(const Ending& ending) noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// status.json as it stands, for messages and tests; nothing if there is none or it is damaged.
struct StatusView {
  std::string state, host, cause, place, remedy, phase, checkpoint;
  std::optional<int> exit_status, rank;
  std::int64_t step = 0, launches = 0;
};
std::optional<StatusView> read_status(const std::filesystem::path& run_directory);

}  // namespace fourmi
