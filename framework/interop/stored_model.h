// A folder as Hugging Face's libraries keep a model: config.json, and the weights in model.safetensors or in several
// files that model.safetensors.index.json lists. Opening reads headers only; bytes of tensors are read where and when
// they are asked for.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/checkpoint/disk.h"
#include "framework/interop/weight_source.h"

namespace fourmi::interop {

inline constexpr std::string_view single_file_name = "model.safetensors", index_name = "model.safetensors.index.json";

class StoredModel final : public WeightSource {
 public:
  struct File {
    std::string name;
    std::int64_t data_begin = 0;  ///< bytes of the header and its length
    std::int64_t bytes = 0;
    std::unique_ptr<FileReader> reader;
  };
  /// Throws Error(input) naming file and tensor: no such folder, a header that is not right, tensors that index and
  /// files do not agree on (all of them named), a tensor in two files.
  explicit StoredModel(std::filesystem::path folder, Disk& disk = real_disk());

  const std::filesystem::path& folder() const { return folder_; }
  const std::vector<File>& files() const { return files_; }

  std::filesystem::path place() const override { return folder_; }
  std::filesystem::path file_of(const Entry& entry) const override { return folder_ / files_[entry.file].name; }
  std::vector<std::filesystem::path> parts() const override;  ///< config.json among them
  const std::vector<Entry>& tensors() const override { return tensors_; }
  std::int64_t bytes() const override;
  std::int64_t bytes_read() const override { return bytes_read_; }
  void read_values(const Entry& entry, std::int64_t first, std::span<float> out) const override;
  void read(const Entry& entry, std::int64_t begin, std::span<std::byte> out) const override;

 private:
  void open(const std::string& name);
  std::vector<std::string> read_index();
  void check_index() const;

  std::filesystem::path folder_;
  Disk& disk_;
  std::vector<File> files_;
  std::vector<Entry> tensors_;
  std::vector<std::pair<std::string, std::string>> index_;  // tensor, file; names ascending
  mutable std::atomic<std::int64_t> bytes_read_ = 0;
};

/// What a path leads to: in the cache of Hugging Face's library every file of a model's folder is a link.
std::filesystem::path behind_links(const std::filesystem::path& path);

/// "a; b; and 3 more".
std::string list_names(const std::vector<std::string>& names, std::size_t most = 40);

}  // namespace fourmi::interop
