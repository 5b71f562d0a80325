#include "framework/train/harvested.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "framework/data/text.h"

namespace fourmi {

namespace fs = std::filesystem;

namespace {

bool is_harvested(const fs::path& file) {
  return file.filename() == "messages.jsonl" && holds_harvest(file.parent_path());
}

/// Folders of harvests that the source reads from, or will.
std::set<fs::path> harvest_folders(const DataSource& source) {
  std::set<fs::path> folders;
  if (holds_harvest(source.path)) folders.insert(fs::path(source.path));
  std::error_code absent;
  if (!folders.empty() && !fs::exists(fs::path(source.path) / "messages.jsonl", absent)) return folders;
  for (const fs::path& file : find_files(source.path, fmt::format("data.train.{}.path", source.name)))
    if (is_harvested(file)) folders.insert(file.parent_path());
  return folders;
}

bool same_folder_of_harvest(const std::string& a, const std::string& b) {
  const auto plain = [](const std::string& path) {
    const fs::path whole = fs::absolute(path).lexically_normal();
    return whole.has_filename() ? whole : whole.parent_path();
  };
  return !a.empty() && !b.empty() && plain(a) == plain(b);
}

Error unfinished(const DataSource& source, const fs::path& folder, const HarvestFact& harvest) {
  const std::string counts = harvest.prompts > 0 ? fmt::format("in which {} of {} prompts are done ({} answers kept)",
                                                               harvest.prompts_done, harvest.prompts, harvest.kept)
                                                 : "that has not said yet what it asks";
  return {ExitStatus::usage, "data.train." + source.name,
          fmt::format("found a harvest in {} {}, expected one that came to its end", folder.string(), counts),
          "Go on with it: `fourmi teacher harvest` with its recipe; distill.allow_incomplete: true trains on what is "
          "there"};
}

}  // namespace

std::vector<Error> unfinished_harvests(const Recipe& recipe) {
  std::vector<Error> all;
  for (const DataSource& source : recipe.data.train) {
    if (source.format != "messages") continue;
    std::error_code absent;
    if (same_folder_of_harvest(source.path, recipe.distill.harvest.output) && !fs::exists(source.path, absent))
      throw Error(ExitStatus::input, fmt::format("data.train.{}.path", source.name),
                  fmt::format("found no {}, expected what distill.harvest writes there", source.path),
                  "Harvest first: `fourmi teacher harvest` with this recipe");
    for (const fs::path& folder : harvest_folders(source))
      if (const HarvestFact harvest = read_harvest(folder); !harvest.complete)
        all.push_back(unfinished(source, folder, harvest));
  }
  return all;
}

void check_harvests(const Recipe& recipe, const std::function<void(const std::string&)>& warn) {
  for (const Error& e : unfinished_harvests(recipe)) {
    if (!recipe.distill.allow_incomplete) throw e;
    warn(fmt::format("{}: {}; distill.allow_incomplete trains on it", e.place(), e.cause()));
  }
}

std::vector<TeacherFact> teachers_of_harvests(const Recipe& recipe) {
  std::vector<TeacherFact> teachers;
  for (const DataSource& source : recipe.data.train) {
    std::error_code absent;
    if (source.format != "messages" || !fs::exists(source.path, absent)) continue;
    for (const fs::path& folder : harvest_folders(source))
      if (TeacherFact t = teacher_of(read_harvest(folder)); !t.name.empty()) teachers.push_back(std::move(t));
  }
  return teachers;
}

bool has_harvest_digest(std::span<const fs::path> files) {
  return !files.empty() && std::all_of(files.begin(), files.end(), [](const fs::path& file) {
    return is_harvested(file) && !read_harvest(file.parent_path()).messages_sha256.empty();
  });
}

std::vector<HarvestFact> harvests_of(DatasetFact& source) {
  std::vector<HarvestFact> all;
  std::size_t known = 0;
  for (const DataFile& file : source.files) {
    if (!is_harvested(file.path)) continue;
    HarvestFact harvest = read_harvest(fs::path(file.path).parent_path());
    if (!harvest.messages_sha256.empty()) {
      ++known;
      if (harvest.messages_sha256 != file.sha256)
        throw Error(ExitStatus::input, file.path,
                    fmt::format("found the SHA-256 {}, expected {}, with which the harvest wrote it", file.sha256,
                                harvest.messages_sha256),
                    "Bring the file back, or let `fourmi teacher harvest` write it anew");
    }
    harvest.dataset = source.id();
    all.push_back(std::move(harvest));
  }
  if (known > 0 && known == source.files.size() && source.digest_from == "reading") source.digest_from = "harvest";
  return all;
}

}  // namespace fourmi
