// A token is a byte's value; 256 is the end of a document. Nothing to train, nothing unknown.
#pragma once

#include "framework/tokenizer/tokenizer.h"

namespace fourmi {

class ByteTokenizer final : public Tokenizer {
 public:
  std::string name() const override { return "bytes"; }
  std::unique_ptr<Encoder> make_encoder() const override;
  std::string decode(std::span<const std::int32_t> tokens) const override;
  std::int32_t end_of_document() const override { return 256; }
  std::int64_t vocab_size() const override { return 257; }
};

}  // namespace fourmi
