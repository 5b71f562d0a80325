#include <algorithm>

#include "framework/capture/cache.h"
#include "framework/capture/checksum.h"
#include "framework/checkpoint/disk.h"

namespace fourmi {

namespace {

constexpr const char* bring_back = "Bring the part back from a copy, or capture again (fourmi teacher capture)";

template <class T>
std::span<std::byte> bytes_in(std::vector<T>& values) {
  return std::as_writable_bytes(std::span(values));
}

}  // namespace

struct CacheReader::File {
  std::string path;
  std::unique_ptr<FileReader> reader;

  explicit File(const std::filesystem::path& p)
      : path(p.string()), reader(std::make_unique<FileReader>(real_disk(), p)) {}
  [[noreturn]] void refuse(const std::string& found, const std::string& expected) const {
    throw Error(ExitStatus::input, path, "found " + found + ", expected " + expected, bring_back);
  }
  void read(std::span<std::byte> bytes, std::int64_t offset) const {
    try {
      reader->read(bytes, offset);
    } catch (const DamageError& e) {
      refuse(e.what(), "a whole part");
    }
  }
};

CacheReader::CacheReader(const std::filesystem::path& folder) : CacheReader(folder, read_cache_manifest(folder)) {}

CacheReader::CacheReader(const std::filesystem::path& folder, CacheManifest manifest)
    : folder_(folder), manifest_(std::move(manifest)), windows_(manifest_.header.sources.size()) {
  for (std::size_t p = 0; p < manifest_.parts.size(); ++p) read_tables(p);
  for (auto& of_source : windows_)
    std::sort(of_source.begin(), of_source.end(),
              [](const Window& a, const Window& b) { return a.first_token < b.first_token; });
}

/// Each time anew: a large cache has more parts than a process may have files.
CacheReader::File CacheReader::open(const CachePart& part) const {
  const std::filesystem::path path = folder_ / part.file;
  try {
    File file(path);
    if (file.reader->size() != part.bytes)
      file.refuse(fmt::format("{} bytes", file.reader->size()), fmt::format("{}", part.bytes));
    return file;
  } catch (const DamageError& e) {
    throw Error(ExitStatus::input, path.string(),
                fmt::format("found a part that cannot be read ({}), expected {} bytes", e.what(), part.bytes),
                bring_back);
  }
}

void CacheReader::read_tables(std::size_t p) {
  const CachePart& part = manifest_.parts[p];
  const File file = open(part);
  const auto n = static_cast<std::size_t>(part.windows);
  if (part.bytes / 16 < part.windows) file.refuse(fmt::format("{} windows", part.windows), "no more than it has bytes");
  std::vector<std::int64_t> first_tokens(n);
  std::vector<std::int32_t> rows(n);
  std::vector<std::uint32_t> checksums(n);
  file.read(bytes_in(first_tokens), part.offsets[2]);
  file.read(bytes_in(rows), part.offsets[3]);
  file.read(bytes_in(checksums), part.offsets[4]);
  if (cache_table_checksum(first_tokens, rows, checksums) != part.table_checksum)
    file.refuse("a table of windows with another CRC-32", fmt::format("{:08x}", part.table_checksum));
  auto& windows = windows_[static_cast<std::size_t>(part.source)];
  std::int64_t at = 0;
  for (std::size_t i = 0; i < n; ++i) {
    windows.push_back({first_tokens[i], at, rows[i], static_cast<std::int32_t>(p), checksums[i]});
    at += rows[i];
  }
}

const CacheReader::Window* CacheReader::find(std::int64_t source, std::int64_t first_token) const {
  const auto& windows = windows_.at(static_cast<std::size_t>(source));
  const auto at = std::lower_bound(windows.begin(), windows.end(), first_token,
                                   [](const Window& w, std::int64_t token) { return w.first_token < token; });
  return at != windows.end() && at->first_token == first_token ? &*at : nullptr;
}

bool CacheReader::has(std::int64_t source, std::int64_t first_token) const {
  return find(source, first_token) != nullptr;
}

std::vector<std::int64_t> CacheReader::windows_of(std::int64_t source) const {
  std::vector<std::int64_t> tokens;
  for (const Window& w : windows_.at(static_cast<std::size_t>(source))) tokens.push_back(w.first_token);
  return tokens;
}

void CacheReader::read(std::int64_t source, std::int64_t first_token, std::span<std::uint32_t> entries,
                       std::span<float> rest) const {
  const Window* const w = find(source, first_token);
  const std::string& name = manifest_.header.sources.at(static_cast<std::size_t>(source)).name;
  if (!w)
    throw Error(
        ExitStatus::input, folder_.string(),
        fmt::format("found nothing of the window at token {} of the source `{}`, expected what the teacher says "
                    "of it",
                    first_token, name),
        "Capture more (fourmi teacher capture RECIPE adds what this recipe reads)");
  const CachePart& part = manifest_.parts[static_cast<std::size_t>(w->part)];
  const File file = open(part);
  const std::int64_t n = manifest_.header.format.entries;
  if (std::ssize(rest) != w->rows)
    file.refuse(fmt::format("{} rows at token {} of `{}`", w->rows, first_token, name), fmt::format("{}", rest.size()));
  file.read(std::as_writable_bytes(entries), part.offsets[0] + 4 * n * w->first_row);
  file.read(std::as_writable_bytes(rest), part.offsets[1] + 4 * w->first_row);
  if (cache_checksum(entries, rest) != w->checksum)
    file.refuse(fmt::format("rows with another CRC-32 at token {} of `{}`", first_token, name),
                fmt::format("{:08x}", w->checksum));
}

}  // namespace fourmi
