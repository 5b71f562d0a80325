// Ids in a row, wherever they lie: a text's bytes, what a tokenizer made of one, or token files. Documents are pieces
// of such a row (documents.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "framework/data/text.h"
#include "framework/data/token_files.h"

namespace fourmi {

class TokenStore {
 public:
  virtual ~TokenStore() = default;
  /// out[i] = id begin + i; all of one document. Needs no memory. Throws Error(input) if files have changed.
  virtual void read(std::int64_t begin, std::span<std::int32_t> out) const = 0;
};

/// A text's bytes, each an id.
class ByteStore final : public TokenStore {
 public:
  explicit ByteStore(std::shared_ptr<const Text> text) : text_(std::move(text)) {}
  void read(std::int64_t begin, std::span<std::int32_t> out) const override;

 private:
  std::shared_ptr<const Text> text_;
};

/// Ids in memory, two bytes each where all are below 65536, else four.
class EncodedStore final : public TokenStore {
 public:
  explicit EncodedStore(std::int64_t vocab_size) : narrow_(vocab_size <= 65536) {}
  void append(std::span<const std::int32_t> ids);
  std::int64_t size() const { return static_cast<std::int64_t>(narrow_ ? two_.size() : four_.size()); }
  void read(std::int64_t begin, std::span<std::int32_t> out) const override;

 private:
  bool narrow_;
  std::vector<std::uint16_t> two_;
  std::vector<std::int32_t> four_;
};

/// Token files, read when they are asked for. Ids are checked each time: a file may change under its reader.
class FileStore final : public TokenStore {
 public:
  FileStore(std::shared_ptr<const TokenFiles> files, std::int64_t vocab_size)
      : files_(std::move(files)), vocab_size_(vocab_size) {}
  void read(std::int64_t begin, std::span<std::int32_t> out) const override { files_->read(begin, vocab_size_, out); }

 private:
  std::shared_ptr<const TokenFiles> files_;
  std::int64_t vocab_size_;
};

}  // namespace fourmi
