#include "framework/train/exporting.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/folder.h"
#include "framework/checkpoint/prove.h"
#include "framework/interop/export.h"
#include "framework/interop/export_mark.h"
#include "framework/recipe/obligation.h"
#include "framework/run/console.h"

namespace fourmi {

namespace fs = std::filesystem;

namespace {

/// The folder, or the nearest one above it that is there.
fs::path existing(const fs::path& folder) {
  fs::path at = fs::absolute(folder).lexically_normal();
  std::error_code ignored;
  while (!fs::is_directory(at, ignored) && at.has_relative_path()) at = at.parent_path();
  return at;
}

}  // namespace

std::vector<std::string> lacking_room(const std::vector<RoomNeeded>& needs) {
  struct FileSystem {
    double bytes = 0, available = 0;
    std::string what;
  };
  std::map<dev_t, FileSystem> all;
  for (const RoomNeeded& need : needs) {
    if (need.bytes <= 0) continue;
    const fs::path folder = existing(need.folder);
    std::error_code failure;
    const auto space = fs::space(folder, failure);
    struct stat facts {};
    if (failure || stat(folder.c_str(), &facts) != 0) continue;
    FileSystem& f = all[facts.st_dev];
    f.bytes += need.bytes;
    f.available = static_cast<double>(space.available);
    f.what += fmt::format("{}{} {}B under {}", f.what.empty() ? "" : ", ", need.what, short_count(need.bytes),
                          folder.string());
  }
  std::vector<std::string> messages;
  for (const auto& [device, f] : all)
    if (f.available < f.bytes)
      messages.push_back(fmt::format("{}: {}B are free there", f.what, short_count(f.available)));
  return messages;
}

double export_bytes_of_run(const Recipe& r, std::optional<std::int64_t> steps) {
  if (r.export_.when == ExportWhen::never) return 0;
  const auto one = static_cast<double>(interop::export_bytes(r.model, r.export_.dtype));
  const bool many = r.export_.when == ExportWhen::checkpoints && steps && *steps > 0 && r.checkpoint.every_steps > 0;
  return many ? one * static_cast<double>((*steps - 1) / r.checkpoint.every_steps + 1) : one;
}

fs::path Exporting::folder_of(std::int64_t step) const {
  return fs::path(context_.recipe.export_.path) / step_name(step);
}

void Exporting::begin() {
  if (wants(ExportWhen::never)) return;
  agreed(context_.group, [&] {
    if (!context_.first()) return;
    const fs::path path = context_.recipe.export_.path;
    const interop::ExportMark mark{.run = interop::run_identity(context_.directory), .root = {}, .dtype = {}};
    std::vector<fs::path> places{path};
    if (wants(ExportWhen::checkpoints)) {
      places.clear();
      for (const std::int64_t step : list_steps(path)) places.push_back(folder_of(step));
    }
    for (const fs::path& place : places)
      if (interop::look_for_export(place, mark) == interop::Found::other)
        throw Error(
            ExitStatus::usage, "export.path",
            fmt::format("found something in {}, expected nothing there, or this run's own export", place.string()),
            "Name another folder, or remove it");
    for (const std::string& lack : lacking_room(
             {{path, static_cast<double>(interop::export_bytes(context_.recipe.model, context_.recipe.export_.dtype)),
               "the export needs"}}))
      narrator_.warn(lack);
  });
}

void Exporting::after_save(std::int64_t saved_step) {
  seen_ = saved_step;
  try {
    make_missing();
  } catch (const Error& e) {  // agreed: on all ranks, or on none
    if (e.status() == ExitStatus::bug || e.status() == ExitStatus::rank_lost ||
        context_.recipe.checkpoint.stop_on_failure)
      throw;
    narrator_.warn(fmt::format("a checkpoint was not exported: {}; training goes on, and it is tried again", e.what()));
  }
}

void Exporting::finish(const fs::path& newest) {
  if (wants(ExportWhen::never)) return;
  try {
    if (wants(ExportWhen::end)) return make(newest, context_.recipe.export_.path);
    make_missing();
  } catch (const Error& e) {
    if (e.status() == ExitStatus::bug || e.status() == ExitStatus::rank_lost) throw;
    throw Error(e.status(), e.place(), e.cause() + " (the export of a finished run)",
                fmt::format("{}{}The run is whole, up to its checkpoint {}: the same command makes the export",
                            e.remedy(), e.remedy().empty() ? "" : ". ", newest.string()));
  }
}

void Exporting::make_missing() {
  const fs::path checkpoints = context_.directory / "checkpoints";
  std::vector<std::int64_t> steps;
  agreed(context_.group, [&] {
    if (context_.first()) steps = list_steps(checkpoints);
  });
  std::int64_t count = std::ssize(steps);
  context_.group.broadcast(std::as_writable_bytes(std::span(&count, 1)), 0);
  steps.resize(static_cast<std::size_t>(count));
  if (count > 0) context_.group.broadcast(std::as_writable_bytes(std::span(steps)), 0);
  std::reverse(steps.begin(), steps.end());  // the oldest first
  for (const std::int64_t step : steps) make(checkpoints / step_name(step), folder_of(step));
}

void Exporting::make(const fs::path& checkpoint, const fs::path& to) {
  const ExportSection& section = context_.recipe.export_;
  std::int64_t missing = 0;
  agreed(context_.group, [&] {
    if (!context_.first()) return;
    const interop::ExportMark mark{.run = interop::run_identity(context_.directory),
                                   .root = read_manifest(real_disk(), checkpoint).root,
                                   .dtype = std::string(interop::name_of(section.dtype))};
    missing = interop::look_for_export(to, mark) != interop::Found::same;
  });
  context_.group.broadcast(std::as_writable_bytes(std::span(&missing, 1)), 0);
  if (!missing) return;
  interop::ExportOptions options{.type = section.dtype, .name = export_name(section.path), .replace_own = true};
  options.say = [&](const std::string& line) { narrator_.note("export: " + line); };
  const interop::ExportReport report = interop::export_model(context_.group, checkpoint, to, options);
  for (const std::string& w : report.warnings) narrator_.warn(w);
  narrator_.say(fmt::format("exported {} to {}: {} tensors, {} bytes, {}", checkpoint.filename().string(), to.string(),
                            report.tensors, report.bytes, report.dtype));
}

}  // namespace fourmi
