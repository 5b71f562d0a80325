#include "framework/run/step_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>
#include <utility>

#include "kernels/runtime/error.h"

namespace fourmi {

namespace fs = std::filesystem;

namespace {

fs::path log_path(const fs::path& run, const std::string& name) {
  return run / (name + ".jsonl");
}

/// The step of a whole line; nothing for a torn or damaged one.
std::optional<std::int64_t> step_of(std::string_view line) {
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) return std::nullopt;
  return json["step"].get<std::int64_t>();
}

struct Split {
  std::string stays, moves;  ///< whole lines, each with its line break
  SupersededLines count;
};

Split split(std::string_view content, StepLog::Steps steps, std::int64_t last_step) {
  Split result;
  std::int64_t expected = 1;
  while (!content.empty()) {
    const auto end = content.find('\n');
    // A line without its break was torn by a kill even if it happens to parse: the run had not gone on from it.
    const bool torn = end == std::string_view::npos;
    const std::string_view line = content.substr(0, end);
    content.remove_prefix(torn ? content.size() : end + 1);
    const auto step = torn ? std::nullopt : step_of(line);
    const bool in_order = steps == StepLog::Steps::any || (step && *step >= expected);
    if (step && *step >= 0 && *step <= last_step && in_order) {
      if (steps == StepLog::Steps::each_once) {
        if (*step != expected && result.count.first_missing == 0) result.count.first_missing = expected;
        expected = *step + 1;
      }
      ++result.count.kept;
      result.stays.append(line).push_back('\n');
    } else {
      ++result.count.moved;
      result.moves.append(line).push_back('\n');
    }
  }
  if (steps == StepLog::Steps::each_once && expected <= last_step && result.count.first_missing == 0) {
    result.count.first_missing = expected;
  }
  return result;
}

/// Adds those of `lines` that `text` does not hold; was any added? A line names its launch and its times, so one that
/// is there already was put there by a launch that was killed before it could take it out of the log.
bool add_new_lines(std::string& text, std::string_view lines) {
  const auto take = [](std::string_view& rest) {
    const auto end = rest.find('\n');
    const auto line = rest.substr(0, end == std::string_view::npos ? end : end + 1);
    rest.remove_prefix(line.size());
    return line;
  };
  if (!text.empty() && text.back() != '\n') text += '\n';
  std::unordered_set<std::string_view> present;
  for (std::string_view rest = text; !rest.empty();) present.insert(take(rest));
  std::string added;
  while (!lines.empty()) {
    const auto line = take(lines);
    if (!present.contains(line)) added += line;
  }
  text += added;
  return !added.empty();
}

}  // namespace

StepLog::StepLog(const fs::path& run_directory, const std::string& name, Steps steps, std::int64_t last_step, Warn warn)
    : path_(log_path(run_directory, name)), warn_(std::move(warn)) {
  const auto content = files::read(path_);
  Split parts = split(content.value_or(std::string()), steps, last_step);
  opened_ = parts.count;
  if (!parts.moves.empty()) {
    const fs::path superseded_path = run_directory / (name + ".superseded.jsonl");
    std::string superseded = files::read(superseded_path).value_or(std::string());
    if (add_new_lines(superseded, parts.moves)) files::replace(superseded_path, superseded);
    files::replace(path_, parts.stays);
  }
  if (opened_.first_missing > 0 && warn_) {
    warn_(fmt::format("{}: step {} has no line, expected one for each of 1 to {}; the run goes on without it",
                      path_.string(), opened_.first_missing, last_step));
  }
  file_ = files::Descriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (!file_) {
    throw Error(ExitStatus::environment, path_.string(),
                fmt::format("opening failed: {}, expected a file that can be written", std::strerror(errno)),
                "Check the permissions of run.directory");
  }
}

StepLog::~StepLog() {
  if (file_) write_pending();
}

void StepLog::append(std::string_view line) {
  FOURMI_CHECK(line.starts_with("{\"step\":") && line.find('\n') == std::string_view::npos, "a log line '{}'", line);
  pending_.append(line).push_back('\n');
  write_pending();
}

bool StepLog::write_pending() {
  std::size_t written = 0;
  int error = 0;
  while (written < pending_.size()) {
    const ssize_t n = ::write(file_.get(), pending_.data() + written, pending_.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      error = n < 0 ? errno : EIO;
      break;
    }
    written += static_cast<std::size_t>(n);
  }
  pending_.erase(0, written);
  if (error != 0 && !failing_ && warn_) {
    warn_(fmt::format("{}: writing failed: {}; training goes on, lines wait in memory until they can be written",
                      path_.string(), std::strerror(error)));
  }
  if (error == 0 && failing_ && warn_) warn_(fmt::format("{}: can be written again, no line is lost", path_.string()));
  failing_ = error != 0;
  return error == 0;
}

bool StepLog::sync() {
  return write_pending() && ::fsync(file_.get()) == 0;
}

void copy_steps(const fs::path& from_run, const fs::path& to_run, const std::string& name, std::int64_t last_step) {
  const auto content = files::read(log_path(from_run, name));
  if (content) files::replace(log_path(to_run, name), split(*content, StepLog::Steps::any, last_step).stays);
}

}  // namespace fourmi
