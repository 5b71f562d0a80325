#include "framework/telemetry/tensorboard.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "framework/run/host.h"
#include "kernels/runtime/error.h"

namespace fourmi {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view file_prefix = "events.out.tfevents.";

/// The newest file's time in `folder`, so that files sort in the order of launches even if a clock was set back; 0:
/// there is none.
std::int64_t newest_file(const fs::path& folder) {
  std::int64_t newest = 0;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(file_prefix))
      newest = std::max<std::int64_t>(newest, std::atoll(name.c_str() + file_prefix.size()));
  }
  return newest;
}

/// Readers sort names as text: a host's name must not hold what a path cannot.
std::string plain(std::string host) {
  std::replace_if(
      host.begin(), host.end(), [](unsigned char c) { return !std::isalnum(c) && c != '-' && c != '.'; }, '-');
  return host.substr(0, 64);
}

}  // namespace

std::string tensorboard_tag(const std::string& key) {
  for (const char* none : {"step", "launch", "tokens", "loss_bits", "grad_norm_bits", "source"})
    if (key == none) return {};
  for (const char* speed :
       {"step_seconds", "simulated_step_seconds", "stall_seconds", "tokens_per_second", "mfu", "speed_of_light"})
    if (key == speed) return "speed/" + key;
  if (key.starts_with("time_")) return "time/" + key.substr(5);
  if (key.starts_with("exposed_")) return "exposed/" + key.substr(8);
  if (key.starts_with("expert_")) return "experts/" + key.substr(7);
  if (key.starts_with("sent_bytes") || key == "group_calls") return "traffic/" + key;
  if (key == "cost" || key == "device_hours") return "budget/" + key;
  return "train/" + key;
}

TensorBoard::TensorBoard(const fs::path& run_directory, std::int64_t last_step, std::int64_t launch, Warn warn)
    : warn_(std::move(warn)) {
  const fs::path folder = run_directory / "tensorboard";
  try {
    files::make_folder(folder);
  } catch (const Error&) {
    // The first write says so.
  }
  const std::int64_t newest = newest_file(folder);
  const auto now = static_cast<std::int64_t>(now_seconds());
  path_ = folder /
          fmt::format("{}{:010d}.{}.launch-{:06d}", file_prefix, std::max(now, newest + 1), plain(host_name()), launch);
  file_.emplace(path_);
  write(version_event(now_seconds()));
  if (newest == 0 && last_step > 0) {
    copy_log(run_directory / "metrics.jsonl", last_step, {});
    copy_log(run_directory / "evaluations.jsonl", last_step, "evaluation/");
  } else {
    write(start_event(now_seconds(), last_step + 1));
  }
}

void TensorBoard::copy_log(const fs::path& path, std::int64_t last_step, const std::string& prefix) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_object() && json.contains("step") && json["step"].is_number_integer() &&
        json["step"].get<std::int64_t>() <= last_step)
      add_line(line, prefix);
  }
}

void TensorBoard::add(std::int64_t step, const Scalars& scalars) {
  if (!scalars.empty()) write(scalars_event(now_seconds(), step, scalars));
}

void TensorBoard::add_line(const std::string& line, const std::string& prefix, Figures figures) {
  const auto json = nlohmann::ordered_json::parse(line, nullptr, false);
  if (!json.is_object()) return;
  const auto source = json.find("source");
  const std::string place =
      source != json.end() && source->is_string() ? prefix + source->get<std::string>() + "/" : prefix;
  Scalars scalars;
  for (const auto& [key, value] : json.items()) {
    const std::string tag = tensorboard_tag(key);
    if (figures == Figures::train && !tag.starts_with("train/")) continue;
    if (value.is_number() && !tag.empty())
      scalars.emplace_back(prefix.empty() ? tag : place + key, value.get<double>());
  }
  add(json.value("step", std::int64_t{0}), scalars);
}

void TensorBoard::write(const std::string& event) {
  const bool written = file_->append(event);
  if (!written && !told_ && warn_)
    warn_(fmt::format("{}: cannot be written; training goes on, TensorBoard may lack steps (metrics.jsonl has them)",
                      path_.string()));
  told_ = !written;
}

}  // namespace fourmi
