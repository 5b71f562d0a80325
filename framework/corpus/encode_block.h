// One block's documents as tokens, ready to be appended to the token files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "framework/corpus/blocks.h"
#include "framework/corpus/journal.h"
#include "framework/data/indexed.h"
#include "framework/tokenizer/tokenizer.h"

namespace fourmi {

struct EncodeOptions {
  bool json_lines = false;
  std::string field;                ///< of a JSON line
  std::string name;                 ///< the input, for messages
  TokenType type = TokenType::u16;  ///< u16 or i32
  bool end_documents = true;
};

struct EncodedBlock {
  std::vector<std::byte> tokens;      ///< of all documents, in `type`
  std::vector<std::int32_t> lengths;  ///< of each document that is not empty, in tokens
  CorpusCounts counts;
};

/// Throws Error(input) naming file, line and column for what is no JSON object with the field.
EncodedBlock encode_block(TextBlock&& block, const EncodeOptions& options, std::int32_t end_of_document,
                          Encoder& encoder);

}  // namespace fourmi
