#include "framework/checkpoint/view.h"

#include <fnmatch.h>
#include <unistd.h>

#include <algorithm>

#include "framework/checkpoint/extents.h"
#include "framework/checkpoint/slice.h"
#include "framework/checkpoint/stream.h"
#include "kernels/numerics/digest.h"

namespace fourmi {

namespace {

bool matches(const TensorEntry& t, const std::vector<std::string>& patterns) {
  if (patterns.empty()) return true;
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& p) {
    return fnmatch(p.c_str(), t.name.c_str(), 0) == 0 ||
           (!t.alias.empty() && fnmatch(p.c_str(), t.alias.c_str(), 0) == 0);
  });
}

/// Bytes of a whole tensor in order, from the boxes that hold them; the digest grows as they pass.
class TensorBytes {
 public:
  TensorBytes(Disk& disk, const Checkpoint& c, const TensorEntry& t) : disk_(disk), checkpoint_(c), tensor_(t) {}

  void read(std::int64_t begin, std::span<std::byte> out) {
    read_bytes(disk_, checkpoint_.folder, checkpoint_.manifest, tensor_, begin, out);
    const std::int64_t element = size_of(tensor_.dtype);
    const Tensor part(out.data(), tensor_.dtype, {static_cast<std::int64_t>(out.size()) / element});
    digest_ += digest(tensor_.name, part, static_cast<std::uint64_t>(begin / element));
  }
  bool proven() const { return digest_ == tensor_.digest; }

 private:
  Disk& disk_;
  const Checkpoint& checkpoint_;
  const TensorEntry& tensor_;
  uint128 digest_ = 0;
};

/// Removes the unfinished file when the view fails.
struct Unfinished {
  Disk& disk;
  std::filesystem::path path;
  bool done = false;
  ~Unfinished() {
    if (!done) disk.unlink(path.c_str());
  }
};

}  // namespace

View write_view(const Checkpoint& c, const std::filesystem::path& out, const std::vector<std::string>& patterns,
                Disk& disk) {
  std::error_code ignored;
  if (std::filesystem::exists(std::filesystem::symlink_status(out, ignored)))
    throw Error(ExitStatus::usage, out.string(), "the file exists, expected a new name",
                "Remove it, or name another file");
  std::vector<const TensorEntry*> tensors;
  std::vector<H5Dataset> datasets;
  for (const TensorEntry& t : c.manifest.tensors) {
    if (!matches(t, patterns) || t.shape.num_elements() == 0) continue;
    tensors.push_back(&t);
    datasets.push_back({t.name, t.alias, t.dtype, t.shape, whole(t.shape)});
  }
  if (tensors.empty())
    throw Error(ExitStatus::usage, c.folder.string(),
                "no tensor has a name like that, expected one that `checkpoint show` lists",
                "Names begin with /model/ or /optimizer/; * and ? stand for any text and any letter");
  const H5Skeleton skeleton(datasets);
  check_file_size_limit(out, skeleton.size());

  const std::filesystem::path parent = out.has_parent_path() ? out.parent_path() : ".";
  Unfinished unfinished{disk, out.string() + fmt::format(".tmp-{}", ::getpid())};
  StreamWriter writer(disk, unfinished.path);
  std::vector<TensorBytes> sources;
  for (const TensorEntry* t : tensors) sources.emplace_back(disk, c, *t);
  std::vector<std::byte> buffer;
  for_each_chunk(extents_of(skeleton, datasets), [&](const Extent& e, std::int64_t begin, std::int64_t bytes) {
    buffer.resize(static_cast<std::size_t>(bytes));
    if (e.dataset == Extent::metadata)
      skeleton.read(buffer, e.offset + begin);
    else
      sources[static_cast<std::size_t>(e.dataset)].read(begin, buffer);
    writer.append(buffer);
  });
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (!sources[i].proven())
      throw DamageError(
          c.folder.string(),
          fmt::format("the bytes of tensor {} do not have the digest that the manifest gives, expected it",
                      tensors[i]->name));
  writer.finish();
  check_h5_structure(unfinished.path, datasets, skeleton.offsets());
  rename_path(disk, unfinished.path, out);
  unfinished.done = true;
  sync_directory(disk, parent);
  return {static_cast<std::int64_t>(tensors.size()), skeleton.size()};
}

}  // namespace fourmi
