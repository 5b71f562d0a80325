// Token files: PREFIX.bin holds the tokens of all documents in a row, PREFIX.idx says where each begins (the format of
// Megatron-LM's IndexedDataset, version 1).
//
// .idx, little-endian: 9 bytes "MMIDIDX\0\0"; u64 version 1; u8 type of the tokens; u64 S sequences; u64 I indices;
// i32 length[S], in tokens; i64 pointer[S], in bytes into .bin; i64 index[I]: document d is the sequences
// [index[d], index[d+1]), so that index[0] = 0 and index[I-1] = S.
// Sequences lie one after the other without gaps, as every writer of the format leaves them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "framework/data/input_file.h"

namespace fourmi {

/// How a token is stored; the values are those of the file. Types of floats (6: f64, 7: f32) are refused.
enum class TokenType : std::uint8_t { u8 = 1, i8 = 2, i16 = 3, i32 = 4, i64 = 5, u16 = 8 };
std::int64_t size_of(TokenType type);  ///< bytes
/// The smallest type for ids in [0, vocab_size): u16 or i32.
TokenType token_type_for(std::int64_t vocab_size);

/// Reads one pair of files. The documents are as the files have them: tokens that end a document are not taken off.
class IndexedTokens {
 public:
  /// `path` is PREFIX, PREFIX.bin or PREFIX.idx. Opens both files, reads .idx and proves it: magic, version, type,
  /// counts, lengths, pointers and sizes of both files. Throws Error(input) naming file, byte, found and expected.
  explicit IndexedTokens(const std::filesystem::path& path);

  const std::filesystem::path& bin_path() const { return bin_.path(); }
  TokenType type() const { return type_; }
  std::int64_t num_documents() const { return static_cast<std::int64_t>(document_begin_.size()) - 1; }
  std::int64_t num_tokens() const { return document_begin_.back(); }
  /// Document d is the tokens [document_begin(d), document_begin(d + 1)); d from 0 to num_documents(). May be empty.
  std::int64_t document_begin(std::int64_t d) const { return document_begin_[static_cast<std::size_t>(d)]; }
  std::int64_t document_of(std::int64_t token) const;  ///< the one that holds it

  /// out[i] = token first + i. Throws Error(input) for an id that is not in [0, 2^31), and where .bin has been cut
  /// short.
  void read(std::int64_t first, std::span<std::int32_t> out) const;
  /// The tokens' bytes as they are in the file.
  void read_bytes(std::int64_t offset, std::span<std::byte> out) const { bin_.read(offset, out); }
  /// Throws Error(input) if .bin was changed since it was opened.
  void check_unchanged() const { bin_.check_unchanged(); }
  /// The error for a token that is not an id below `vocab_size`: names file, document, the token's place in it, and id.
  [[noreturn]] void refuse_token(std::int64_t token, std::int64_t id, std::int64_t vocab_size) const;

 private:
  InputFile bin_;
  TokenType type_ = TokenType::u16;
  std::vector<std::int64_t> document_begin_;
};

/// Writes one pair of files aside (PREFIX.bin.tmp, PREFIX.idx.tmp); finish() makes them last and gives them their
/// names. Until then nothing of that name has changed. Throws Error(environment) where the disk does not do it.
class IndexedWriter {
 public:
  /// Folders of `prefix` must exist.
  IndexedWriter(std::filesystem::path prefix, TokenType type);
  ~IndexedWriter();  ///< removes what was not finished
  IndexedWriter(const IndexedWriter&) = delete;
  IndexedWriter& operator=(const IndexedWriter&) = delete;

  /// One document of one sequence. Throws Error(input) for an id that the type cannot hold.
  void add(std::span<const std::int32_t> document);
  void finish();
  std::int64_t num_documents() const { return static_cast<std::int64_t>(lengths_.size()); }
  std::int64_t num_tokens() const { return num_tokens_; }

 private:
  class Output;
  std::filesystem::path prefix_;
  TokenType type_;
  std::unique_ptr<Output> bin_;
  std::vector<std::int32_t> lengths_;
  std::int64_t num_tokens_ = 0;
};

/// PREFIX for PREFIX, PREFIX.bin and PREFIX.idx.
std::filesystem::path indexed_prefix(const std::filesystem::path& path);

}  // namespace fourmi
