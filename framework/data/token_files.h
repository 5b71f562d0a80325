// The token files of one source as one row of ids, and the documents in it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/data/held_out.h"
#include "framework/data/indexed.h"

namespace fourmi {

class TokenFiles {
 public:
  /// Opens and proves all pairs. `path` is a PREFIX, PREFIX.bin, or a glob or folder of .bin files (their .idx beside
  /// them), in the order of their paths' bytes. Throws Error(input).
  TokenFiles(const std::string& path, const std::string& place);

  const std::vector<IndexedTokens>& files() const { return files_; }
  std::int64_t num_bytes() const;  ///< of the .bin files
  std::int64_t num_tokens() const { return begin_.back(); }

  /// What a look at every token gave. Documents are the longest runs of tokens without end-of-document inside of what
  /// .idx calls a document: whoever ended documents with that token, began them with it or left it out, the loader puts
  /// one before each. Empty ones are left out.
  struct Scan {
    std::vector<TextPiece> documents;  ///< in tokens of the row
    std::uint32_t checksum = 0;        ///< CRC-32 of the .bin files' bytes and of what .idx says of documents
  };
  /// Reads every token once (the first time). Throws Error(input) for an id that is not in [0, vocab_size), with file,
  /// document, offset and id.
  const Scan& scan(std::int64_t vocab_size, std::int32_t end_of_document, std::int32_t opening = -1) const;
  std::uint32_t checksum() const;  ///< after scan()

  /// out[i] = token begin + i, all in one file. Throws Error(input) if the file was changed since it was opened.
  void read(std::int64_t begin, std::int64_t vocab_size, std::span<std::int32_t> out) const;

 private:
  std::vector<IndexedTokens> files_;
  std::vector<std::int64_t> begin_{0};  ///< of each file in the row, and one more
  mutable std::optional<Scan> scan_;
};

/// The .bin files that a source of format bin names.
std::vector<std::filesystem::path> find_token_files(const std::string& path, const std::string& place);

}  // namespace fourmi
