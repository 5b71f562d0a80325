#include "framework/checkpoint/load.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/folder.h"
#include "framework/checkpoint/prove.h"
#include "framework/checkpoint/rank_file.h"
#include "framework/checkpoint/slice.h"
#include "kernels/numerics/digest.h"
#include "kernels/runtime/on_host.h"

namespace fourmi {

namespace fs = std::filesystem;

Checkpoint prove_checkpoint(Group& group, const fs::path& folder, Disk& disk) {
  Checkpoint c{folder, {}};
  std::string text;
  agreed(group, [&] {
    if (group.rank() != 0) return;
    text = read_manifest_text(disk, folder);
    c.manifest = parse_manifest(text, (folder / "manifest.json").string());
    prove_sizes(disk, folder, c.manifest);
  });
  // All ranks parse the bytes that rank 0 proved, so none can see another checkpoint.
  broadcast_text(group, text, 0);
  agreed(group, [&] {
    if (group.rank() != 0) c.manifest = parse_manifest(text, (folder / "manifest.json").string());
    for (std::size_t f = static_cast<std::size_t>(group.rank()); f < c.manifest.files.size();
         f += static_cast<std::size_t>(group.size())) {
      std::error_code ignored;  // rank 0 has just seen the file, so its absence here is no damage
      if (const fs::path path = folder / c.manifest.files[f].name; !fs::exists(path, ignored))
        throw Error(ExitStatus::environment, path.string(), "the file is not visible here, expected it as on rank 0",
                    "run.directory must lie on a file system that all ranks share");
      prove_file(disk, folder, c.manifest, f);
    }
  });
  return c;
}

CheckpointChoice choose_newest(Group& group, const fs::path& checkpoints, bool owner, Disk& disk) {
  CheckpointChoice choice;
  std::string text;  // rank 0's list, so that all ranks try the same ones
  agreed(group, [&] {
    if (group.rank() != 0) return;
    const auto problems = owner ? clean_leftovers(disk, checkpoints) : std::vector<std::string>();
    text = nlohmann::json::array({list_steps(checkpoints), problems})
               .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  });
  broadcast_text(group, text, 0);
  const auto list = nlohmann::json::parse(text);
  const auto steps = list[0].get<std::vector<std::int64_t>>();
  choice.messages = list[1].get<std::vector<std::string>>();

  std::vector<fs::path> damaged;
  for (std::int64_t step : steps) {
    const fs::path folder = checkpoints / step_name(step);
    try {
      choice.checkpoint = prove_checkpoint(group, folder, disk);
      break;
    } catch (const DamageError& e) {
      damaged.push_back(folder);
      choice.messages.push_back(fmt::format("{} is damaged: {}", folder.string(), e.what()));
    }
  }
  if (!choice.checkpoint && !damaged.empty())
    throw Error(
        ExitStatus::input, checkpoints.string(),
        fmt::format("none of {} checkpoints is whole ({}), expected one", damaged.size(), choice.messages.back()),
        "Restore one from a copy, or start in another run.directory");
  agreed(group, [&] {
    if (owner && group.rank() == 0)
      for (const fs::path& folder : damaged) set_aside(disk, folder);
  });
  return choice;
}

CheckpointChoice open_model(Group& group, const fs::path& model, Disk& disk) {
  std::string folder, single;
  agreed(group, [&] {
    if (group.rank() != 0) return;
    const ModelPath found = find_model(model);
    folder = found.folder.string();
    single = found.single ? "yes" : "";
  });
  broadcast_text(group, folder, 0);
  broadcast_text(group, single, 0);
  if (single.empty()) return choose_newest(group, folder, false, disk);
  return {prove_checkpoint(group, folder, disk), {}};
}

namespace {

const TensorEntry& matching_entry(const Checkpoint& c, const Box& box) {
  const TensorEntry* t = c.manifest.find(box.name);
  const std::string place = (c.folder / "manifest.json").string();
  const char* remedy = "The checkpoint is of another model or of another precision.moments";
  if (t == nullptr || t->name != box.name)
    throw Error(ExitStatus::input, place, fmt::format("tensor {} is missing, expected it", box.name), remedy);
  if (t->shape != box.global || t->dtype != box.data.dtype)
    throw Error(ExitStatus::input, place,
                fmt::format("tensor {} is {} {}, expected {} {}", box.name, name_of(t->dtype), to_string(t->shape),
                            name_of(box.data.dtype), to_string(box.global)),
                remedy);
  return *t;
}

}  // namespace

void load_boxes(Group& group, const Checkpoint& checkpoint, std::span<const Box> wanted, Disk& disk) {
  agreed(group, [&] {
    check_boxes(wanted);
    for (const Box& b : wanted)  // all names first: of another model is said before minutes of reading
      matching_entry(checkpoint, b);
    for (const Box& b : wanted) {
      const OnHost here(b.device, b.data, OnHost::Use::fill);
      read_part(disk, checkpoint.folder, checkpoint.manifest, matching_entry(checkpoint, b), b.part(),
                static_cast<std::byte*>(here.tensor().data));
      here.back();
    }
  });
}

void prove_live_state(Group& group, const Checkpoint& checkpoint, std::span<const Box> boxes) {
  // Per tensor: four 32-bit limbs of the digest (their sums over ranks fit into 64 bits), elements, and whether it is
  // held.
  constexpr std::size_t width = 6;
  const std::vector<TensorEntry>& tensors = checkpoint.manifest.tensors;
  std::vector<std::int64_t> sums(tensors.size() * width, 0);
  agreed(group, [&] {
    check_boxes(boxes);
    for (const Box& b : boxes) {
      const TensorEntry& t = matching_entry(checkpoint, b);
      std::int64_t* s = sums.data() + static_cast<std::size_t>(&t - tensors.data()) * width;
      const OnHost here(b.device, b.data);
      const uint128 d = b.data.num_elements() > 0 ? digest(b.name, here.tensor(), runs_of(b.part(), b.global)) : 0;
      for (int limb = 0; limb < 4; ++limb) s[limb] = static_cast<std::int64_t>(d >> (32 * limb) & 0xffffffffu);
      s[4] = b.data.num_elements();
      s[5] = 1;
    }
  });
  group.all_sum(std::span(sums));
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::int64_t* s = sums.data() + i * width;
    uint128 d = 0;
    for (int limb = 0; limb < 4; ++limb) d += static_cast<uint128>(s[limb]) << (32 * limb);
    const std::string place = checkpoint.folder.string();
    if (s[5] == 0)
      throw Error(
          ExitStatus::input, place,
          fmt::format("the checkpoint holds tensor {}, expected none of that name in this run", tensors[i].name),
          "It is of another model or another recipe");
    if (const std::int64_t all = tensors[i].shape.num_elements(); s[4] != all)
      throw Error(ExitStatus::bug, place,
                  fmt::format("tensor {}: ranks hold {} elements, expected {}", tensors[i].name, s[4], all));
    if (d != tensors[i].digest)
      throw Error(ExitStatus::input, place,
                  fmt::format("tensor {} in memory has the digest {}, expected {} as saved", tensors[i].name,
                              digest_text(d), digest_text(tensors[i].digest)),
                  "Memory, disk or network changed it, or a rank loaded other rows; start again, and replace the "
                  "machine if it stays");
  }
}

}  // namespace fourmi
