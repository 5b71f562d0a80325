// The tensors of a GGUF file as any model's weights are read; and the small files that stand beside weights in a folder
// of Hugging Face's, made of what the file says.
#pragma once

#include <map>
#include <string>

#include "framework/interop/gguf/model.h"
#include "framework/interop/weight_source.h"

namespace fourmi::interop {

class GgufSource final : public WeightSource {
 public:
  /// As GgufModel.
  explicit GgufSource(std::filesystem::path file);

  const GgufModel& model() const { return model_; }

  std::filesystem::path place() const override { return file_; }
  std::filesystem::path file_of(const Entry&) const override { return file_; }
  std::vector<std::filesystem::path> parts() const override { return {file_}; }
  const std::vector<Entry>& tensors() const override { return tensors_; }
  std::int64_t bytes() const override { return model_.file_bytes(); }
  std::int64_t bytes_read() const override { return model_.bytes_read(); }
  void read_values(const Entry& entry, std::int64_t first, std::span<float> out) const override;
  void read(const Entry& entry, std::int64_t begin, std::span<std::byte> out) const override;

  /// The type that most elements have, in lower case: "q4_1".
  std::string most_used_type() const;

 private:
  std::filesystem::path file_;
  GgufModel model_;
  std::vector<Entry> tensors_;
};

/// config.json, generation_config.json, tokenizer.json, tokenizer_config.json and chat_template.jinja, as far as the
/// file has their facts; names with texts. What of the vocabulary cannot be read is left out, and said in `warnings`.
std::map<std::string, std::string> gguf_companions(const GgufModel& model, std::vector<std::string>& warnings);

}  // namespace fourmi::interop
