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
#include "framework/interop/safetensors_header.h"

namespace fourmi::interop {

inline constexpr std::string_view single_file_name = "model.safetensors", index_name = "model.safetensors.index.json";

class StoredModel {
 public:
  struct File {
    std::string name;
    std::int64_t data_begin = 0;  ///< bytes of the header and its length
    std::int64_t bytes = 0;
    std::unique_ptr<FileReader> reader;
  };
  struct Entry {
    StoredTensor tensor;
    std::size_t file = 0;
  };

  /// Throws Error(input) naming file and tensor: no such folder, a header that is not right, tensors that index and
  /// files do not agree on (all of them named), a tensor in two files.
  explicit StoredModel(std::filesystem::path folder, Disk& disk = real_disk());

  const std::filesystem::path& folder() const { return folder_; }
  const std::vector<File>& files() const { return files_; }
  const std::vector<Entry>& tensors() const { return tensors_; }  ///< names ascending
  const Entry* find(std::string_view name) const;
  std::int64_t bytes() const;  ///< of all files

  /// Bytes [begin, begin + out.size()) of a tensor's. Throws Error naming file and tensor. Several threads may read.
  void read(const Entry& entry, std::int64_t begin, std::span<std::byte> out) const;
  /// Read so far, headers included.
  std::int64_t bytes_read() const { return bytes_read_; }

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
