// A GGUF file as a model of Hugging Face's: its tensors as rows of f32, its config.json, tokenizer.json and chat
// template. Opening reads the header only; rows are read where and when they are asked for.
//
//   GgufModel model("SmolLM2.gguf");
//   for (const LlamaTensor& t : model.tensors()) model.read_rows(t, 0, t.rows(), out);
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "framework/interop/gguf/header.h"
#include "framework/interop/gguf/llama.h"

namespace fourmi::interop {

class GgufModel {
 public:
  /// Throws Error(input) naming file and key or tensor.
  explicit GgufModel(const std::filesystem::path& file);
  ~GgufModel();

  const GgufHeader& header() const { return header_; }
  const std::vector<LlamaTensor>& tensors() const { return tensors_; }  ///< names ascending
  const LlamaTensor* find(std::string_view name) const;

  /// Rows [begin, begin + count) in Hugging Face's order; out.size() is count * columns(). Several threads may read.
  /// Throws Error(input) if the file has become shorter or cannot be read.
  void read_rows(const LlamaTensor& tensor, std::int64_t begin, std::int64_t count, std::span<float> out) const;
  /// Elements [first, first + out.size()) of the rows one after the other. As read_rows.
  void read_elements(const LlamaTensor& tensor, std::int64_t first, std::span<float> out) const;

  std::int64_t file_bytes() const { return file_->size(); }
  /// Of the file so far, its header included.
  std::int64_t bytes_read() const { return bytes_read_; }

  std::string config_json() const { return llama_config_json(header_); }
  std::string tokenizer_json() const;  ///< vocabulary.h
  std::string chat_template() const { return header_.get_or<std::string>("tokenizer.chat_template", ""); }

 private:
  /// Elements as they follow each other in the file; the ends need not be those of blocks.
  void read_stored(const LlamaTensor& tensor, std::int64_t first, std::span<float> out) const;

  std::atomic<std::int64_t> bytes_read_ = 0;
  std::unique_ptr<ByteSource> file_;
  GgufHeader header_;
  std::vector<LlamaTensor> tensors_;
};

}  // namespace fourmi::interop
