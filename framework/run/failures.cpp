#include "framework/run/failures.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "framework/run/files.h"

namespace fourmi {

namespace fs = std::filesystem;

namespace {

constexpr const char* file_name = "failures.json";
constexpr std::size_t most_launches = 3;

struct Failures {
  std::int64_t step = -1;
  std::vector<std::int64_t> launches;  ///< that failed after this step
  std::string place, cause;            ///< of the last
};

/// What cannot be read counts nothing.
Failures read(const fs::path& path) try {
  Failures f;
  const auto json = nlohmann::json::parse(files::read(path).value_or(""), nullptr, false);
  if (!json.is_object()) return f;
  f.step = json.at("step").get<std::int64_t>();
  f.launches = json.at("launches").get<std::vector<std::int64_t>>();
  f.place = json.at("place").get<std::string>();
  f.cause = json.at("cause").get<std::string>();
  return f;
} catch (const nlohmann::json::exception&) {
  return {};
}

bool is_own_error(ExitStatus status) {
  switch (status) {
    case ExitStatus::bug:
    case ExitStatus::environment:
    case ExitStatus::input:
    case ExitStatus::guard:
      return true;
    default:
      return false;
  }
}

}  // namespace

void note_failure(const fs::path& run_directory, std::int64_t launch, std::int64_t step, const Ending& ending) noexcept
    try {
  if (!is_own_error(ending.exit_status)) return;
  Failures f = read(run_directory / file_name);
  if (f.step != step) f = {step, {}, "", ""};
  if (std::find(f.launches.begin(), f.launches.end(), launch) == f.launches.end()) f.launches.push_back(launch);
  const nlohmann::ordered_json json{
      {"step", step}, {"launches", f.launches}, {"place", ending.place}, {"cause", ending.cause}};
  files::replace(run_directory / file_name,
                 json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
} catch (const std::exception&) {
  // A full disk, or one that is gone: status.json and the error's line have to do.
}

void refuse_repeated_failure(const fs::path& run_directory, bool changed) {
  const fs::path path = run_directory / file_name;
  const Failures f = read(path);
  if (f.launches.size() < most_launches) return;
  if (changed) {
    fs::remove(path);
    return;
  }
  std::string launches;
  for (const std::int64_t launch : f.launches) launches += fmt::format("{}{}", launches.empty() ? "" : ", ", launch);
  throw Error(ExitStatus::guard, path.string(),
              fmt::format("launches {} ended by their own error after step {}, the last at {}: {}; expected a person "
                          "to look before the next",
                          launches, f.step, f.place, f.cause),
              "Mend the cause, then change a key of the recipe or add --accept-changes: the count begins anew");
}

}  // namespace fourmi
