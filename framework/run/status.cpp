#include "framework/run/status.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>

#include "framework/run/files.h"
#include "framework/run/host.h"

namespace fourmi {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

namespace {

constexpr const char* file_name = "status.json";

const char* name_of(RunState state) {
  switch (state) {
    case RunState::running:
      return "running";
    case RunState::done:
      return "done";
    case RunState::stopped:
      return "stopped";
    case RunState::failed:
      return "failed";
  }
  return "?";
}

/// Overwrites the file where it lies: a full disk has no room for a new one, but the old one's block is there.
bool overwrite(const fs::path& path, std::string text) {
  const files::Descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return false;
  const off_t old_size = ::lseek(file.get(), 0, SEEK_END);
  if (old_size > static_cast<off_t>(text.size())) text.resize(static_cast<std::size_t>(old_size), '\n');
  return ::pwrite(file.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()) &&
         ::fsync(file.get()) == 0;
}

}  // namespace

RunState state_of(ExitStatus status) {
  switch (status) {
    case ExitStatus::ok:
      return RunState::done;
    case ExitStatus::stopped:
    case ExitStatus::budget:
      return RunState::stopped;
    default:
      return RunState::failed;
  }
}

Ending Ending::of(const Error& error, int rank, std::string host) {
  return {error.status(), rank, std::move(host), error.cause(), error.place(), error.remedy()};
}

struct StatusFile::State {
  fs::path path;
  std::int64_t launch = 0;
  std::chrono::milliseconds period;
  std::atomic<const char*> phase{"start"};
  std::atomic<std::int64_t> step{0};
  std::atomic<bool> final_written{false};
  std::string host = host_name();
  std::timed_mutex text_mutex;  ///< over the next two; never held over I/O
  std::string checkpoint, final_text;
  std::timed_mutex writing;  ///< held over I/O, so the final status waits for it only so long
  std::optional<Clock::time_point> last_write;
  std::optional<DeviceTime> device_time;

  std::string text(RunState state, const Ending* ending) {
    std::string newest;
    if (text_mutex.try_lock_for(std::chrono::seconds(1))) {
      newest = checkpoint;
      text_mutex.unlock();
    }
    nlohmann::ordered_json json;
    json["state"] = name_of(state);
    json["exit_status"] = ending ? nlohmann::ordered_json(static_cast<int>(ending->exit_status)) : nullptr;
    json["step"] = step.load();
    json["checkpoint"] = newest.empty() ? nullptr : nlohmann::ordered_json(newest);
    json["rank"] = ending && ending->rank ? nlohmann::ordered_json(*ending->rank) : nullptr;
    json["host"] = ending && !ending->host.empty() ? ending->host : host;
    json["cause"] = ending ? ending->cause : "";
    json["place"] = ending ? ending->place : "";
    json["remedy"] = ending ? ending->remedy : "";
    json["launches"] = launch;
    if (device_time) json["device_hours"] = device_time->hours();
    json["phase"] = phase.load();
    json["time"] = utc_time(now_seconds());
    // A path or a library's message may hold bytes that are no UTF-8: replaced, never an exception.
    return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }

  /// May this ending replace what is on disk? Not a later launch's status, and not the cause that another rank of this
  /// launch wrote.
  bool may_write(const Ending* ending) const {
    const auto present = read_status(path.parent_path());
    if (!present) return true;
    if (present->launches > launch) return false;
    if (!ending || present->launches < launch || present->state == "running") return true;
    return present->exit_status == static_cast<int>(ExitStatus::rank_lost) &&
           ending->exit_status != ExitStatus::rank_lost;
  }
};

StatusFile::StatusFile(const fs::path& run_directory, std::int64_t launch, std::chrono::milliseconds period)
    : state_(std::make_unique<State>()) {
  state_->path = run_directory / file_name;
  state_->launch = launch;
  state_->period = period;
}

StatusFile::~StatusFile() = default;

void StatusFile::set_phase(const char* name) noexcept {
  state_->phase.store(name, std::memory_order_relaxed);
}

const char* StatusFile::phase() const noexcept {
  return state_->phase.load(std::memory_order_relaxed);
}

void StatusFile::set_step(std::int64_t step) noexcept {
  state_->step.store(step, std::memory_order_relaxed);
}

std::int64_t StatusFile::step() const noexcept {
  return state_->step.load(std::memory_order_relaxed);
}

std::int64_t StatusFile::launch() const noexcept {
  return state_->launch;
}

void StatusFile::set_checkpoint(const std::string& path) {
  const std::lock_guard lock(state_->text_mutex);
  state_->checkpoint = path;
}

void StatusFile::set_device_time(const DeviceTime& time) {
  state_->device_time = time;
}

bool StatusFile::tick() noexcept try {
  const std::unique_lock lock(state_->writing, std::try_to_lock);
  if (!lock) return true;  // somebody is writing
  const auto now = Clock::now();
  if (state_->final_written || (state_->last_write && now - *state_->last_write < state_->period)) return true;
  state_->last_write = now;
  if (!state_->may_write(nullptr)) return false;
  files::replace(state_->path, state_->text(RunState::running, nullptr), files::Durable::no);
  if (state_->final_written) {
    // This write hung for so long that the final one did not wait: put it back.
    const std::lock_guard text_lock(state_->text_mutex);
    if (!state_->final_text.empty()) files::replace(state_->path, state_->final_text);
  }
  return true;
} catch (const std::exception&) {
  return false;
}

bool StatusFile::write_final(const Ending& ending) noexcept try {
  if (state_->final_written.exchange(true)) return true;
  // A tick may hang in the disk for ever; a second's patience only keeps its late rename from undoing this one.
  const std::unique_lock lock(state_->writing, std::chrono::seconds(1));
  if (!state_->may_write(&ending)) return true;
  const std::string text = state_->text(state_of(ending.exit_status), &ending);
  if (state_->text_mutex.try_lock_for(std::chrono::seconds(1))) {
    state_->final_text = text;
    state_->text_mutex.unlock();
  }
  try {
    files::replace(state_->path, text, files::Durable::yes);
    return true;
  } catch (const Error&) {
    return overwrite(state_->path, text);
  }
} catch (const std::exception&) {
  return false;
}

std::optional<StatusView> read_status(const fs::path& run_directory) {
  const auto content = files::read(run_directory / file_name);
  if (!content) return std::nullopt;
  const auto json = nlohmann::json::parse(*content, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  StatusView view;
  const auto text = [&](const char* key) {
    return json.contains(key) && json[key].is_string() ? json[key].get<std::string>() : std::string();
  };
  const auto number = [&](const char* key) -> std::optional<std::int64_t> {
    if (!json.contains(key) || !json[key].is_number_integer()) return std::nullopt;
    return json[key].get<std::int64_t>();
  };
  view.state = text("state");
  view.host = text("host");
  view.cause = text("cause");
  view.place = text("place");
  view.remedy = text("remedy");
  view.phase = text("phase");
  view.checkpoint = text("checkpoint");
  if (const auto n = number("exit_status")) view.exit_status = static_cast<int>(*n);
  if (const auto n = number("rank")) view.rank = static_cast<int>(*n);
  view.step = number("step").value_or(0);
  view.launches = number("launches").value_or(0);
  return view;
}

}  // namespace fourmi
