#include "framework/tokenizer/choose.h"

#include <fmt/format.h>

#include "framework/tokenizer/bytes.h"
#include "kernels/runtime/error.h"

namespace fourmi {

std::unique_ptr<Tokenizer> make_tokenizer(const DataSection& data, std::int64_t model_vocab_size) {
  if (data.tokenizer != "bytes")
    throw Error(ExitStatus::usage, "data.tokenizer", fmt::format("'{}' was found, 'bytes' was expected", data.tokenizer));
  std::unique_ptr<Tokenizer> tokenizer = std::make_unique<ByteTokenizer>();
  if (model_vocab_size < tokenizer->vocab_size())
    throw Error(ExitStatus::usage, "model.vocab_size",
                fmt::format("{} was found, at least {} (the ids of tokenizer '{}') was expected", model_vocab_size,
                            tokenizer->vocab_size(), data.tokenizer));
  return tokenizer;
}

}  // namespace fourmi
