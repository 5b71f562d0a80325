// Text as its tokens come, for readers who want it at once: a token may end in the middle of a character.
#pragma once

#include <cstdint>
#include <string>

#include "framework/tokenizer/tokenizer.h"

namespace fourmi {

class StreamDecoder {
 public:
  /// `continues`: the tokens go on with a text that is there already.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool continues = false)
      : tokenizer_(tokenizer), begins_(!continues) {}
  /// What may be shown after this token: everything but the beginning of a character that a later token may complete.
  /// Bytes that are no UTF-8 come out as they are; all pieces together are decode() of all tokens.
  std::string push(std::int32_t token);
  /// What is left: at most three bytes.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool begins_;
  std::string rest_;
};

}  // namespace fourmi
