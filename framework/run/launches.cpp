#include "framework/run/launches.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "framework/run/files.h"
#include "framework/run/host.h"

namespace fourmi {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view branch_key = "branched_from: ";

fs::path launch_path(const fs::path& run, std::int64_t number) {
  return run / "launches" / fmt::format("{}.yaml", number);
}

/// The highest number in launches/, 0 if there is none.
std::int64_t newest_launch(const fs::path& run) {
  std::int64_t newest = 0;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(run / "launches", absent)) {
    const std::string stem = entry.path().stem().string();
    const bool digits = !stem.empty() && stem.size() <= 18 && stem.find_first_not_of("0123456789") == std::string::npos;
    if (digits && entry.path().extension() == ".yaml") newest = std::max<std::int64_t>(newest, std::stoll(stem));
  }
  return newest;
}

/// A JSON string is a YAML double-quoted scalar.
std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

std::int64_t next_launch(const fs::path& run_directory) {
  return newest_launch(run_directory) + 1;
}

void write_launch(const fs::path& run_directory, const LaunchRecord& record) {
  std::string text = fmt::format("launch: {}\ntime: {}\nstarted_as: {}\n", record.number, utc_time(now_seconds()),
                                 quoted(record.started_as));
  if (!record.branched_from.empty()) text += fmt::format("{}{}\n", branch_key, quoted(record.branched_from));
  text += fmt::format("step: {}\ncommand: {}\nversion: {}\ncommit: {}\nbuild: {}\ninstruction_set: {}\ndevice: {}\n",
                      record.step, quoted(record.command), quoted(record.version), quoted(record.commit),
                      quoted(record.build_type), quoted(record.instruction_set), quoted(record.device));
  text += fmt::format("ranks: {}\nhosts:\n", record.hosts.size());
  for (std::size_t first = 0; first < record.hosts.size();) {
    std::size_t last = first;
    while (last + 1 < record.hosts.size() && record.hosts[last + 1] == record.hosts[first]) ++last;
    text += fmt::format("  - {{host: {}, first_rank: {}, last_rank: {}}}\n", quoted(record.hosts[first]), first, last);
    first = last + 1;
  }
  const auto map = [&](const char* key, const std::vector<std::pair<std::string, std::string>>& entries) {
    text += fmt::format("{}:{}\n", key, entries.empty() ? " {}" : "");
    for (const auto& [name, value] : entries) text += fmt::format("  {}: {}\n", quoted(name), quoted(value));
  };
  map("libraries", record.libraries);
  map("environment", record.environment);
  text += fmt::format("changes:{}\n", record.changes.empty() ? " []" : "");
  for (const std::string& change : record.changes) text += fmt::format("  - {}\n", quoted(change));
  text += "recipe:\n";
  std::istringstream lines(record.recipe);
  for (std::string line; std::getline(lines, line);) text += line.empty() ? "\n" : fmt::format("  {}\n", line);
  files::make_folder(run_directory / "launches");
  files::replace(launch_path(run_directory, record.number), text);
}

std::string branched_from(const fs::path& run_directory) {
  const auto content = files::read(launch_path(run_directory, newest_launch(run_directory)));
  std::istringstream lines(content.value_or(std::string()));
  for (std::string line; std::getline(lines, line) && !line.starts_with("recipe:");) {
    if (!line.starts_with(branch_key)) continue;
    const auto value = nlohmann::json::parse(line.substr(branch_key.size()), nullptr, false);
    return value.is_string() ? value.get<std::string>() : std::string();
  }
  return {};
}

}  // namespace fourmi
