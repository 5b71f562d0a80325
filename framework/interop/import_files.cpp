#include "framework/interop/import_files.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/extents.h"
#include "kernels/numerics/digest.h"

namespace fourmi::interop {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr std::int64_t most_note_bytes = std::int64_t{1} << 30;

fs::path file_at(const fs::path& folder, std::size_t file) {
  return folder / rank_file_name(static_cast<int>(file));
}
fs::path note_at(const fs::path& folder, std::size_t file) {
  return file_at(folder, file).string() + ".whole";
}

/// The note of a file that an earlier try of the same import wrote to its end; empty if there is none.
std::string note_of(const ImportPlan& plan, const fs::path& folder, std::size_t file, Disk& disk) {
  std::error_code failure;
  if (!fs::exists(note_at(folder, file), failure)) return {};
  const json note = json::parse(read_text(disk, note_at(folder, file), most_note_bytes), nullptr, false);
  if (!note.is_object() || note.value("import", "") != plan.fingerprint() || !note["file"].is_string()) return {};
  const std::string text = note["file"].get<std::string>();
  const auto bytes = fs::file_size(file_at(folder, file), failure);
  if (failure || static_cast<std::int64_t>(bytes) != parse_rank_file(text).file.bytes) return {};
  return text;
}

std::string write_file(const ImportPlan& plan, const fs::path& folder, std::size_t file, Disk& disk) {
  std::error_code failure;
  for (const fs::path& left : {note_at(folder, file), file_at(folder, file)}) fs::remove(left, failure);
  const std::string text =
      to_text(write_streamed_file(disk, file_at(folder, file), plan.files()[file].tensors, plan.source(file)));
  const fs::path aside = note_at(folder, file).string() + ".tmp";
  fs::remove(aside, failure);
  write_text(disk, aside, json{{"import", plan.fingerprint()}, {"file", text}}.dump());
  rename_path(disk, aside, note_at(folder, file));
  return text;
}

}  // namespace

std::vector<RankFile> write_files(Group& group, const ImportPlan& plan, const fs::path& folder, Disk& disk,
                                  std::int64_t& kept, const std::function<void(std::size_t)>& written) {
  json mine = json::array();
  agreed(group, [&] {
    for (auto i = static_cast<std::size_t>(group.rank()); i < plan.files().size();
         i += static_cast<std::size_t>(group.size())) {
      std::string text = note_of(plan, folder, i, disk);
      const bool whole = !text.empty();
      if (!whole) text = write_file(plan, folder, i, disk);
      mine.push_back({{"number", i}, {"kept", whole}, {"file", text}});
      written(i);
    }
  });
  std::vector<RankFile> files(group.rank() == 0 ? plan.files().size() : 0);
  kept = 0;
  for (const std::string& text : gather_texts(group, mine.dump()))
    for (const json& part : json::parse(text)) {
      files[part["number"].get<std::size_t>()] = parse_rank_file(part["file"].get<std::string>());
      kept += part["kept"].get<bool>();
    }
  return files;
}

void remove_notes(const ImportPlan& plan, const fs::path& folder) {
  std::error_code ignored;
  for (std::size_t i = 0; i < plan.files().size(); ++i) {
    fs::remove(note_at(folder, i), ignored);
    fs::remove(note_at(folder, i).string() + ".tmp", ignored);
  }
}

void prove_copies(const ImportPlan& plan, const WeightSource& stored, const std::vector<RankFile>& files) {
  std::vector<float> values;
  for (const SecondCopy& copy : plan.map().copies) {
    const StoredTensor& t = copy.stored->tensor;
    const std::string name = master_name(plan.table().find(copy.of->tensor.name));
    uint128 expected = 0, found = 0;
    for (const RankFile& f : files)
      for (const TensorEntry& e : f.tensors)
        for (const BoxEntry& b : e.boxes)
          if (e.name == name) expected += b.digest;  // a rank's file tells digests of boxes only
    const bool usable = t.type != StoredType::other && t.type != StoredType::f8_e4m3;
    const std::int64_t all = t.shape.num_elements(), at_once = chunk_bytes / 4;
    for (std::int64_t done = 0; usable && done < all; done += at_once) {
      const std::int64_t n = std::min(at_once, all - done);
      values.resize(static_cast<std::size_t>(n));
      stored.read_values(*copy.stored, done, values);
      found += digest(name, Tensor(values.data(), DType::f32, {n}), static_cast<std::uint64_t>(done));
    }
    if (!usable || found != expected)
      throw Error(ExitStatus::input, stored.file_of(*copy.stored).string(),
                  fmt::format("tensor `{}` differs from `{}`, expected the same values: in this architecture they are "
                              "one tensor",
                              t.name, copy.of->tensor.name),
                  "A model in which they differ is not built");
  }
}

}  // namespace fourmi::interop
