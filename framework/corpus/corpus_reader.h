// The inputs of a corpus one after the other, as blocks of whole documents, read ahead while others work on them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/corpus/blocks.h"
#include "framework/digest/file_digest.h"

namespace fourmi {

/// A block of an input; or, with an empty block, the word that an input has ended.
struct CorpusPiece {
  std::size_t input = 0;
  TextBlock block;
  std::optional<FileDigest> ended = {};  ///< of the whole input, as it lies on the disk
};

struct CorpusBatch {
  std::vector<CorpusPiece> pieces;
  std::int64_t bytes_read = 0;  ///< of all inputs so far, as they lie on the disk
};

/// text or jsonl: `format`, and where that is auto what the name tells. Throws Error(usage) for a token file.
std::string corpus_format(const std::filesystem::path& input, const std::string& format);

class CorpusReader {
 public:
  struct Start {
    std::size_t input = 0;                ///< all before it are passed over
    std::int64_t decoded = 0, lines = 0;  ///< of that input
  };
  /// `inputs` must outlive the reader.
  CorpusReader(std::span<const std::filesystem::path> inputs, std::string format, std::int64_t block_bytes,
               Start start);

  /// Calls work(batch) with batches of about `bytes` (a document at least) until the corpus ends; the next one is read
  /// meanwhile on a thread of its own. Throws what reading and work throw.
  void for_batches(std::int64_t bytes, const std::function<void(CorpusBatch&)>& work);

 private:
  CorpusBatch next(std::int64_t bytes);

  std::span<const std::filesystem::path> inputs_;
  std::string format_;
  std::int64_t block_bytes_;
  Start at_;
  std::unique_ptr<BlockReader> reader_;
  std::int64_t bytes_before_ = 0;  ///< of the inputs before
};

}  // namespace fourmi
