// A file that grows aside and is forced to the disk at commits, so that a later process can go on with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>

namespace fourmi {

/// All throw Error(environment) naming the file where the disk does not do it.
class PartFile {
 public:
  /// Opens or makes the file and cuts it to `keep` bytes, which it must have; without it, it stays as it is.
  PartFile(std::filesystem::path path, std::optional<std::int64_t> keep);
  ~PartFile();
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  void append(std::span<const std::byte> bytes);
  void append(std::string_view text) { append(std::as_bytes(std::span(text.data(), text.size()))); }
  void sync();
  void cut(std::int64_t bytes);  ///< to a size that it has
  /// False: another process holds it, or held it and has removed it since.
  bool lock();
  std::int64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::int64_t size_ = 0;
};

/// Error(environment) with the reason that errno gives.
[[noreturn]] void refuse_disk(const std::filesystem::path& path, const char* what);
/// Makes names in the folder of `file` last.
void sync_folder_of(const std::filesystem::path& file);

}  // namespace fourmi
