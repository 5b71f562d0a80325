#include "framework/run/lease.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "framework/run/files.h"
#include "kernels/runtime/error.h"
#include "kernels/runtime/thread.h"

namespace fourmi {

namespace fs = std::filesystem;

namespace {

constexpr const char* released_ending = ".released.json";

struct Owner {
  ProcessIdentity process;
  double since = 0;
  double touched = 0;  ///< by the file system's clock
};

/// The highest epoch's file; epoch 0: there was never a launch.
struct Newest {
  std::int64_t epoch = 0;
  bool released = true;
  fs::path path;
};

double seconds_of(const timespec& t) {
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

bool is_released(const std::string& name) {
  return name.ends_with(released_ending);
}

/// The epoch in a lease file's name; nothing for any other file.
std::optional<std::int64_t> epoch_of(const std::string& name) {
  const auto digits = name.find_first_not_of("0123456789");
  if (digits == 0 || digits == std::string::npos || digits > 18) return std::nullopt;
  if (name.substr(digits) != ".json" && name.substr(digits) != released_ending) return std::nullopt;
  return std::stoll(name.substr(0, digits));
}

Newest find_newest(const fs::path& folder) {
  Newest newest;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const auto epoch = epoch_of(name);
    if (!epoch) continue;
    // Both names of one epoch cannot exist; if a user copied them together, the live one counts.
    if (*epoch > newest.epoch || (*epoch == newest.epoch && !is_released(name))) {
      newest = {*epoch, is_released(name), entry.path()};
    }
  }
  return newest;
}

/// Removes the files of former owners, and what killed launches left aside.
void tidy(const fs::path& folder, std::int64_t epoch) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const auto other = epoch_of(entry.path().filename().string());
    if (other && *other < epoch) fs::remove(entry.path(), ignored);
  }
  files::remove_leftovers(folder);
}

fs::path path_of(const fs::path& folder, std::int64_t epoch, const char* ending) {
  return folder / fmt::format("{:06}{}", epoch, ending);
}

std::string to_json(const ProcessIdentity& process, double since) {
  const nlohmann::ordered_json json = {{"host", process.host},
                                       {"pid", process.pid},
                                       {"since", since},
                                       {"since_utc", utc_time(since)},
                                       {"boot", process.boot},
                                       {"pid_namespace", process.pid_namespace},
                                       {"start_ticks", process.start_ticks}};
  return json.dump() + "\n";
}

/// Nothing if the file went away meanwhile. Opening it makes a network file system ask its server again.
std::optional<Owner> read_owner(const fs::path& path) {
  const files::Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0) return std::nullopt;
  const auto content = files::read(path);
  if (!content) return std::nullopt;
  Owner owner;
  owner.touched = seconds_of(info.st_mtim);
  const auto json = nlohmann::json::parse(*content, nullptr, false);
  if (!json.is_object()) return owner;  // damaged: nobody's process table, so its age decides
  try {
    owner.process.host = json.value("host", "");
    owner.process.boot = json.value("boot", "");
    owner.process.pid_namespace = json.value("pid_namespace", "");
    owner.process.pid = json.value("pid", std::int64_t{0});
    owner.process.start_ticks = json.value("start_ticks", std::uint64_t{0});
    owner.since = json.value("since", 0.0);
  } catch (const nlohmann::json::exception&) {
    owner.process = {};
  }
  return owner;
}

[[noreturn]] void in_use(const fs::path& directory, const Owner& owner, double age, const LeaseOptions& options) {
  const bool here = owner.process.same_process_table(options.process);
  throw Error(ExitStatus::environment, "run.directory",
              fmt::format("{} is in use by process {} on host {} since {}{}, expected one launch a directory",
                          directory.string(), owner.process.pid, owner.process.host, utc_time(owner.since),
                          here ? "" : fmt::format(" (last sign of life {:.0f} s ago)", age)),
              here ? "Wait for it, stop it with SIGUSR1 (it saves first), or use another run.directory"
                   : fmt::format("Wait for it, or use another run.directory; {} s after its last sign of life the next "
                                 "launch takes the directory over",
                                 options.foreign_timeout.count()));
}

}  // namespace

struct Lease::State {
  fs::path directory, folder, path;
  LeaseOptions options;
  std::int64_t epoch = 0;
  files::Descriptor file;
  std::atomic<bool> lost{false};
  std::mutex mutex;  ///< over the members below, and over a renewal
  std::condition_variable wake;
  bool released = false;
  std::chrono::steady_clock::time_point renewed = std::chrono::steady_clock::now();
  std::thread heartbeat;

  /// With the mutex held. A touch that fails (a server that does not answer) is tried again at the next heartbeat.
  void renew() {
    if (released || lost) return;
    struct stat info {};
    try {
      // Whoever took over removed this file's name, or is about to and has a higher number.
      if (::fstat(file.get(), &info) != 0) return;
      if (info.st_nlink == 0 || find_newest(folder).epoch > epoch) {
        lost = true;
        return;
      }
    } catch (const fs::filesystem_error&) {
      return;
    }
    if (::futimens(file.get(), nullptr) == 0) renewed = std::chrono::steady_clock::now();
  }

  void beat() {
    std::unique_lock lock(mutex);
    while (!released && !lost) {
      if (wake.wait_for(lock, options.heartbeat, [&] { return released; })) return;
      renew();
    }
  }
};

Lease::Lease(std::unique_ptr<State> state) : state_(std::move(state)) {
  state_->heartbeat = start_thread("lease of the run directory", [s = state_.get()] { s->beat(); });
}

std::unique_ptr<Lease> Lease::acquire(const fs::path& directory, LeaseOptions options) {
  const fs::path folder = directory / "lease";
  files::make_folder(folder);
  const double since = now_seconds();
  const auto patient_until = std::chrono::steady_clock::now() + options.dying_patience;
  // The file is complete before it has its name; its own time is the file system's "now".
  static std::atomic<unsigned> counter{0};
  const fs::path aside = folder / fmt::format("claim.aside-{}-{}-{}-{}", options.process.host, options.process.pid,
                                              options.process.start_ticks, counter.fetch_add(1));
  for (;;) {
    ::unlink(aside.c_str());
    files::replace(aside, to_json(options.process, since), files::Durable::no);
    struct RemoveAside {
      const fs::path& path;
      ~RemoveAside() { ::unlink(path.c_str()); }
    } remove_aside{aside};
    files::Descriptor file(::open(aside.c_str(), O_RDWR | O_CLOEXEC));
    struct stat info {};
    if (!file || ::fstat(file.get(), &info) != 0) continue;

    const Newest newest = find_newest(folder);
    if (!newest.released) {
      const auto owner = read_owner(newest.path);
      if (!owner) continue;  // it went away while we looked: look again
      const double age = seconds_of(info.st_mtim) - owner->touched;
      const bool here = owner->process.same_process_table(options.process);
      const bool alive = here ? is_alive(owner->process) : age < static_cast<double>(options.foreign_timeout.count());
      if (alive && here && std::chrono::steady_clock::now() < patient_until) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        continue;
      }
      if (alive) in_use(directory, *owner, age, options);
    }

    const std::int64_t epoch = newest.epoch + 1;
    const fs::path path = path_of(folder, epoch, ".json");
    if (::link(aside.c_str(), path.c_str()) != 0) {
      const int error = errno;
      // Over a network a link may be made and its answer lost: the count of names tells.
      if (::fstat(file.get(), &info) != 0 || info.st_nlink != 2) {
        if (error == EEXIST || error == ENOENT) continue;  // another launch was faster (and tidied up)
        throw Error(ExitStatus::environment, "run.directory",
                    fmt::format("{}: a lease cannot be made ({}), expected a file system with hard links",
                                directory.string(), std::strerror(error)),
                    "Use a run.directory on another file system");
      }
    }
    // A claim from an old look at the folder is below the highest: it is void.
    if (find_newest(folder).epoch > epoch) {
      ::unlink(path.c_str());
      continue;
    }
    files::sync_folder(folder);
    tidy(folder, epoch);
    auto state = std::make_unique<State>();
    state->directory = directory;
    state->folder = folder;
    state->path = path;
    state->options = std::move(options);
    state->epoch = epoch;
    state->file = std::move(file);
    return std::unique_ptr<Lease>(new Lease(std::move(state)));
  }
}

Lease::~Lease() {
  release();
}

std::int64_t Lease::epoch() const {
  return state_->epoch;
}

bool Lease::lost() const {
  return state_->lost;
}

void Lease::check() {
  {
    const std::lock_guard lock(state_->mutex);
    if (std::chrono::steady_clock::now() - state_->renewed > 2 * state_->options.heartbeat) state_->renew();
  }
  if (!state_->lost) return;
  const auto owner = read_owner(find_newest(state_->folder).path);
  throw Error(
      ExitStatus::environment, "run.directory",
      fmt::format("{} was taken over by process {} on host {} while this process slept, the lease of this launch "
                  "was expected to hold",
                  state_->directory.string(), owner ? owner->process.pid : 0, owner ? owner->process.host : "unknown"),
      "The other launch goes on; nothing need be done");
}

void Lease::release() {
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->released) return;
    state_->released = true;
  }
  state_->wake.notify_all();
  if (state_->heartbeat.joinable()) state_->heartbeat.join();
  // Gone if the lease was lost, which is then as it should be.
  ::rename(state_->path.c_str(), path_of(state_->folder, state_->epoch, released_ending).c_str());
}

}  // namespace fourmi
