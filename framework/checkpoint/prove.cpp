#include "framework/checkpoint/prove.h"

#include <algorithm>

#include "framework/checkpoint/extents.h"
#include "framework/digest/sha256.h"
#include "kernels/numerics/digest.h"

namespace fourmi {

namespace fs = std::filesystem;

namespace {

constexpr std::int64_t largest_manifest = std::int64_t{4} << 30;

/// The digest of a box, from its bytes in the file.
uint128 box_digest(const FileReader& reader, const TensorEntry& t, const BoxEntry& b) {
  const std::int64_t element = size_of(t.dtype), total = t.bytes_of(b.part);
  const ElementRuns runs = runs_of(b.part, t.shape);
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min(total, chunk_bytes)));
  uint128 sum = 0;
  for (std::int64_t done = 0; done < total; done += chunk_bytes) {
    const std::int64_t n = std::min(chunk_bytes, total - done);
    reader.read(std::span(buffer.data(), static_cast<std::size_t>(n)), b.offset + done);
    const Tensor part(buffer.data(), t.dtype, {n / element});
    sum += digest(t.name, part, runs, static_cast<std::uint64_t>(done / element));
  }
  return sum;
}

/// The first tensor whose bytes in this file are not those of the manifest; empty if there is none.
std::string damaged_tensor(const FileReader& reader, const Manifest& manifest, std::size_t file) {
  for (const TensorEntry& t : manifest.tensors)
    for (const BoxEntry& b : t.boxes)
      if (b.file == static_cast<std::int64_t>(file) && box_digest(reader, t, b) != b.digest)
        return fmt::format("{} ({})", t.name, to_text(b.part, t.shape));
  return "";
}

}  // namespace

std::string read_manifest_text(Disk& disk, const fs::path& folder) {
  return read_text(disk, folder / "manifest.json", largest_manifest);
}

Manifest read_manifest(Disk& disk, const fs::path& folder) {
  const Manifest m = parse_manifest(read_manifest_text(disk, folder), (folder / "manifest.json").string());
  prove_sizes(disk, folder, m);
  return m;
}

void prove_sizes(Disk& disk, const fs::path& folder, const Manifest& manifest) {
  for (const FileEntry& f : manifest.files) {
    const std::int64_t size = FileReader(disk, folder / f.name).size();
    if (size != f.bytes)
      throw DamageError((folder / f.name).string(), fmt::format("the file has {} bytes, expected {}", size, f.bytes));
  }
}

void prove_file(Disk& disk, const fs::path& folder, const Manifest& manifest, std::size_t file) {
  const FileEntry& entry = manifest.files[file];
  const FileReader reader(disk, folder / entry.name);
  const std::string place = (folder / entry.name).string();
  if (reader.size() != entry.bytes)
    throw DamageError(place, fmt::format("the file has {} bytes, expected {}", reader.size(), entry.bytes));
  Sha256 hash;
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min(entry.bytes, chunk_bytes)));
  for (std::int64_t done = 0; done < entry.bytes; done += chunk_bytes) {
    const std::span part(buffer.data(), static_cast<std::size_t>(std::min(chunk_bytes, entry.bytes - done)));
    reader.read(part, done);
    hash.add(part);
  }
  if (hash.finish() == entry.sha256) return;
  const std::string tensor = damaged_tensor(reader, manifest, file);
  throw DamageError(place,
                    tensor.empty()
                        ? "bytes outside the tensors differ from those saved, expected the SHA-256 of the manifest"
                        : fmt::format("the bytes of tensor {} differ from those saved, expected its digest", tensor));
}

void prove_contents(Disk& disk, const fs::path& folder, const Manifest& manifest, std::size_t file) {
  const fs::path path = folder / manifest.files[file].name;
  std::vector<H5Dataset> datasets;
  std::vector<std::int64_t> offsets;
  const FileReader reader(disk, path);
  for (const TensorEntry& t : manifest.tensors)
    for (const BoxEntry& b : t.boxes) {
      if (b.file != static_cast<std::int64_t>(file)) continue;
      if (box_digest(reader, t, b) != b.digest)
        throw DamageError(path.string(), fmt::format("the bytes of tensor {} do not have the digest that the manifest "
                                                     "gives, expected it",
                                                     t.name));
      datasets.push_back({t.name, t.alias, t.dtype, t.shape, b.part});
      offsets.push_back(b.offset);
    }
  check_h5_structure(path, datasets, offsets);
}

std::vector<std::string> extra_entries(const fs::path& folder, const Manifest& manifest) {
  std::vector<std::string> extra;
  std::error_code ignored;
  for (const auto& e : fs::directory_iterator(folder, ignored)) {
    const std::string name = e.path().filename().string();
    const bool listed =
        std::any_of(manifest.files.begin(), manifest.files.end(), [&](const FileEntry& f) { return f.name == name; });
    if (!listed && name != "manifest.json") extra.push_back(name);
  }
  std::sort(extra.begin(), extra.end());
  return extra;
}

}  // namespace fourmi
