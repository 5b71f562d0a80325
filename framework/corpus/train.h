// A vocabulary learnt from a corpus.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "framework/tokenizer/learn.h"

namespace fourmi {

struct TrainTokenizerOptions {
  std::vector<std::filesystem::path> inputs;
  std::string format = "auto", field = "text";  ///< as in TokenizeOptions
  std::string pattern = "cl100k";               ///< how text is cut into words (tokenizer/patterns.h)
  LearnOptions learn;
  int threads = 1;
  std::int64_t block_bytes = 1 << 20;
  std::function<void(std::int64_t, std::int64_t)> progress{};  ///< bytes of the inputs read, and of all
};

struct TrainedTokenizer {
  std::string json;  ///< a tokenizer.json: the same for any number of threads
  std::int64_t vocab_size = 0, merges = 0, words = 0, text_bytes = 0;
};

/// Memory grows with the number of different words, not with the text (JSON lines; a text file is held whole). Throws
/// Error(usage) for a vocabulary that is too small for its bytes and special tokens, Error(input) for what cannot be
/// read.
TrainedTokenizer train_tokenizer(const TrainTokenizerOptions& options);

}  // namespace fourmi
