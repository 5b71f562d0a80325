// Where the weights of a model that another program made are read from: safetensors files (stored_model.h) or a GGUF
// file (gguf/source.h), tensors by Hugging Face's names. Opening reads headers only; a range of a tensor is read where
// and when it is asked for.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/interop/safetensors_header.h"

namespace fourmi::interop {

class WeightSource {
 public:
  struct Entry {
    StoredTensor tensor;
    std::size_t file = 0;
  };

  virtual ~WeightSource() = default;

  /// The folder or the file, for messages.
  virtual std::filesystem::path place() const = 0;
  virtual std::filesystem::path file_of(const Entry& entry) const = 0;
  /// All files that decide what the weights are.
  virtual std::vector<std::filesystem::path> parts() const = 0;
  virtual const std::vector<Entry>& tensors() const = 0;  ///< names ascending
  const Entry* find(std::string_view name) const;
  virtual std::int64_t bytes() const = 0;  ///< of all weights' files
  /// Read so far, headers included.
  virtual std::int64_t bytes_read() const = 0;

  /// Elements [first, first + out.size()) of a tensor as f32, exactly; of no FP8 tensor, whose values need scales.
  /// Throws Error naming file and tensor. Several threads may read.
  virtual void read_values(const Entry& entry, std::int64_t first, std::span<float> out) const = 0;
  /// Bytes [begin, begin + out.size()) of a tensor as it is stored. As read_values.
  virtual void read(const Entry& entry, std::int64_t begin, std::span<std::byte> out) const = 0;
};

}  // namespace fourmi::interop
