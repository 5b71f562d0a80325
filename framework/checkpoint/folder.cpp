#include "framework/checkpoint/folder.h"

#include <algorithm>
#include <charconv>

namespace fourmi {

namespace fs = std::filesystem;

std::string step_name(std::int64_t step) {
  return fmt::format("step-{:08}", step);
}

std::optional<std::int64_t> parse_step_name(std::string_view name) {
  constexpr std::string_view prefix = "step-";
  if (!name.starts_with(prefix)) return std::nullopt;
  const std::string_view digits = name.substr(prefix.size());
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (error != std::errc() || step < 0 || end != digits.data() + digits.size() || step_name(step) != name)
    return std::nullopt;
  return step;
}

namespace {

std::vector<std::string> names_in(const fs::path& folder, fs::file_type type) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error); !error && it != fs::directory_iterator(); it.increment(error))
    if (it->symlink_status().type() == type) names.push_back(it->path().filename().string());
  if (error && error != std::errc::no_such_file_or_directory)
    throw Error(ExitStatus::environment, folder.string(),
                fmt::format("listing the folder failed: {}, expected to read it", error.message()));
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

std::vector<std::int64_t> list_steps(const fs::path& checkpoints) {
  std::vector<std::int64_t> steps;
  for (const std::string& name : names_in(checkpoints, fs::file_type::directory))
    if (const auto step = parse_step_name(name)) steps.push_back(*step);
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

ModelPath find_model(const fs::path& model) {
  std::error_code ignored;
  const fs::path real = fs::weakly_canonical(model, ignored);  // a trailing slash or `latest` hides the name
  if (fs::is_directory(model, ignored)) {
    if (fs::exists(model / "manifest.json", ignored) || parse_step_name(real.filename().string())) return {model, true};
    if (!list_steps(model / "checkpoints").empty()) return {model / "checkpoints", false};
    if (!list_steps(model).empty()) return {model, false};
  }
  throw Error(ExitStatus::input, model.string(), "found no checkpoint, expected a run directory or a checkpoint");
}

std::vector<std::string> clean_leftovers(Disk& disk, const fs::path& checkpoints) {
  std::vector<std::string> problems;
  const auto attempt = [&](const auto& work) {
    try {
      work();
    } catch (const Error& e) {
      problems.push_back(e.what());
    }
  };
  const auto clean = [&](const std::string& name) {
    const std::size_t dot = name.find('.');
    if (dot == std::string::npos || !parse_step_name(name.substr(0, dot))) return;
    const std::string_view kind = std::string_view(name).substr(dot);
    const fs::path original = checkpoints / name.substr(0, dot);
    std::error_code ignored;
    if (kind.starts_with(".old-") && !fs::exists(original, ignored))
      rename_path(disk, checkpoints / name, original);
    else if (kind.starts_with(".tmp-") || kind.starts_with(".deleted-") || kind.starts_with(".old-"))
      remove_folder(disk, checkpoints / name);
  };
  attempt([&] {
    for (const std::string& name : names_in(checkpoints, fs::file_type::directory)) attempt([&] { clean(name); });
    for (const std::string& name : names_in(checkpoints, fs::file_type::symlink))
      if (name.starts_with("latest.")) attempt([&] { remove_link(disk, checkpoints / name); });
  });
  return problems;
}

std::vector<std::int64_t> steps_to_delete(std::span<const std::int64_t> steps, std::int64_t newest,
                                          std::int64_t keep_last, std::int64_t keep_every_steps) {
  std::vector<std::int64_t> sorted;
  for (std::int64_t s : steps)
    if (s < newest) sorted.push_back(s);
  std::sort(sorted.rbegin(), sorted.rend());
  std::vector<std::int64_t> doomed;
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    const bool recent = static_cast<std::int64_t>(i) + 1 < keep_last;
    const bool milestone = keep_every_steps > 0 && sorted[i] % keep_every_steps == 0;
    if (!recent && !milestone) doomed.push_back(sorted[i]);
  }
  return doomed;
}

void delete_checkpoint(Disk& disk, const fs::path& checkpoints, std::int64_t step, const std::string& nonce) {
  const fs::path aside = checkpoints / (step_name(step) + ".deleted-" + nonce);
  rename_path(disk, checkpoints / step_name(step), aside);
  remove_folder(disk, aside);
}

fs::path set_aside(Disk& disk, const fs::path& checkpoint) {
  fs::path to = checkpoint.string() + ".damaged";
  std::error_code ignored;
  for (int i = 2; fs::exists(to, ignored); ++i) to = fmt::format("{}.{}.damaged", checkpoint.string(), i);
  rename_path(disk, checkpoint, to);
  return to;
}

}  // namespace fourmi
