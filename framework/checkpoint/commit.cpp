#include "framework/checkpoint/commit.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "framework/checkpoint/folder.h"

namespace fourmi {

namespace fs = std::filesystem;

Manifest merge(const std::vector<RankFile>& files, const CheckpointState& state) {
  Manifest m;
  m.state = state;
  std::map<std::string, TensorEntry> tensors;
  for (const RankFile& f : files) {
    for (const TensorEntry& t : f.tensors) {
      TensorEntry& whole =
          tensors.try_emplace(t.name, TensorEntry{t.name, t.alias, t.dtype, t.shape, 0, {}}).first->second;
      FOURMI_CHECK(whole.alias == t.alias && whole.dtype == t.dtype && whole.shape == t.shape,
                   "{} differs between ranks", t.name);
      for (BoxEntry b : t.boxes) {
        b.file = static_cast<std::int64_t>(m.files.size());
        whole.digest += b.digest;
        whole.boxes.push_back(b);
      }
    }
    m.files.push_back(f.file);
  }
  for (auto& [name, t] : tensors) {
    std::sort(t.boxes.begin(), t.boxes.end(), before);
    const std::string problem = tiling_problem(t);
    FOURMI_CHECK(problem.empty(), "{}: {}", name, problem);
    m.tensors.push_back(std::move(t));
  }
  m.root = root_digest(m.tensors, m.state);
  return m;
}

void commit(Disk& disk, const Manifest& manifest, const fs::path& unfinished, const fs::path& final_path,
            const std::string& nonce) {
  for (const FileEntry& f : manifest.files) {
    const std::int64_t size = FileReader(disk, unfinished / f.name).size();
    if (size != f.bytes)
      throw Error(ExitStatus::environment, (unfinished / f.name).string(),
                  fmt::format("rank 0 sees {} bytes, expected {}", size, f.bytes),
                  "run.directory must lie on a file system that all ranks share");
  }
  const std::string text = to_text(manifest);
  const fs::path place = unfinished / "manifest.json";
  parse_manifest(text, place.string());  // what cannot be loaded is not committed
  write_text(disk, place, text);
  sync_directory(disk, unfinished);
  std::error_code ignored;
  if (fs::exists(final_path, ignored)) {
    // A kill between the two renames leaves the old one under its spare name; clean_leftovers puts it back.
    const fs::path spare = final_path.string() + ".old-" + nonce;
    rename_path(disk, final_path, spare);
    try {
      rename_path(disk, unfinished, final_path);
    } catch (const Error&) {
      rename_path(disk, spare, final_path);
      throw;
    }
  } else {
    rename_path(disk, unfinished, final_path);
  }
  sync_directory(disk, final_path.parent_path());
}

std::vector<std::string> tidy_up(Disk& disk, const fs::path& checkpoints, std::int64_t step, std::int64_t keep_last,
                                 std::int64_t keep_every_steps, const std::string& nonce) {
  std::vector<std::string> warnings = clean_leftovers(disk, checkpoints);
  const auto attempt = [&](const auto& work) {
    try {
      work();
    } catch (const std::exception& e) {
      warnings.push_back(e.what());
    }
  };
  attempt([&] {
    const fs::path link = checkpoints / ("latest." + nonce);
    if (disk.symlink(step_name(step).c_str(), link.c_str()) != 0)
      throw Error(ExitStatus::environment, link.string(),
                  fmt::format("making the link failed: {}, expected the convenience `latest`", std::strerror(errno)));
    const int renamed = disk.rename(link.c_str(), (checkpoints / "latest").c_str());
    const int error = errno;
    if (renamed != 0) disk.unlink(link.c_str());
    if (renamed != 0)
      throw Error(
          ExitStatus::environment, link.string(),
          fmt::format("renaming it to latest failed: {}, expected the convenience `latest`", std::strerror(error)));
  });
  attempt([&] {
    for (std::int64_t s : steps_to_delete(list_steps(checkpoints), step, keep_last, keep_every_steps))
      attempt([&] { delete_checkpoint(disk, checkpoints, s, nonce); });
  });
  return warnings;
}

}  // namespace fourmi
