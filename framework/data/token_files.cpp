#include "framework/data/token_files.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "framework/data/text.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t piece_bytes = 1 << 20;

std::uint32_t add_to_crc(std::uint32_t crc, const void* bytes, std::size_t size) {
  return static_cast<std::uint32_t>(crc32_z(crc, static_cast<const Bytef*>(bytes), size));
}

/// Finds documents and ids that are none in one file, token by token.
class Scanner {
 public:
  Scanner(const IndexedTokens& file, std::int64_t base, std::int64_t vocab_size, std::int32_t end_of_document,
          std::int32_t opening, TokenFiles::Scan& scan)
      : file_(file),
        base_(base),
        vocab_size_(vocab_size),
        end_of_document_(end_of_document),
        opening_(opening),
        scan_(scan) {}

  void run() {
    switch (file_.type()) {
      case TokenType::u8:
        return run_as<std::uint8_t>();
      case TokenType::i8:
        return run_as<std::int8_t>();
      case TokenType::i16:
        return run_as<std::int16_t>();
      case TokenType::u16:
        return run_as<std::uint16_t>();
      case TokenType::i32:
        return run_as<std::int32_t>();
      case TokenType::i64:
        return run_as<std::int64_t>();
    }
  }

 private:
  template <class T>
  void run_as() {
    constexpr auto width = static_cast<std::int64_t>(sizeof(T));
    std::vector<T> ids;
    for (std::int64_t first = 0; first < file_.num_tokens();) {
      ids.resize(static_cast<std::size_t>(std::min(piece_bytes / width, file_.num_tokens() - first)));
      file_.read_bytes(first * width, std::as_writable_bytes(std::span(ids)));
      scan_.checksum = add_to_crc(scan_.checksum, ids.data(), ids.size() * sizeof(T));
      for (const T id : ids) visit(first++, static_cast<std::int64_t>(id));
    }
    close(file_.num_tokens());
    for (std::int64_t d = 0; d <= file_.num_documents(); ++d) {
      const std::int64_t begin = file_.document_begin(d);
      scan_.checksum = add_to_crc(scan_.checksum, &begin, sizeof begin);
    }
  }
  void visit(std::int64_t token, std::int64_t id) {
    if (token >= document_end_) {
      close(token);
      while (token >= document_end_) document_end_ = file_.document_begin(++document_);
    }
    if (id == end_of_document_ || (opening_ >= 0 && id == opening_)) return close(token);
    if (id < 0 || id >= vocab_size_) file_.refuse_token(token, id, vocab_size_);
    if (begin_ < 0) begin_ = token;
  }
  void close(std::int64_t end) {
    if (begin_ >= 0) scan_.documents.push_back({base_ + begin_, base_ + end});
    begin_ = -1;
  }

  const IndexedTokens& file_;
  std::int64_t base_, vocab_size_, end_of_document_, opening_;
  TokenFiles::Scan& scan_;
  std::int64_t document_ = 0, document_end_ = 0;  // of .idx
  std::int64_t begin_ = -1;                       // of ours that is open
};

}  // namespace

std::vector<fs::path> find_token_files(const std::string& path, const std::string& place) {
  std::error_code none;
  const fs::path pair = indexed_prefix(path).string() + ".bin";
  if (fs::exists(pair, none)) return {pair};
  std::vector<fs::path> files = find_files(path, place);
  // Beside them lie their indices, and what the ledger wants to know.
  std::erase_if(files, [](const fs::path& file) { return file.extension() == ".idx" || file.extension() == ".json"; });
  for (const fs::path& file : files)
    if (file.extension() != ".bin")
      throw Error(ExitStatus::input, file.string(), "a name that does not end in .bin, token files were expected");
  if (files.empty()) throw Error(ExitStatus::input, place, path + " has no .bin file, at least one was expected");
  return files;
}

TokenFiles::TokenFiles(const std::string& path, const std::string& place) {
  for (const fs::path& file : find_token_files(path, place)) {
    files_.emplace_back(file);
    begin_.push_back(begin_.back() + files_.back().num_tokens());
  }
}

std::int64_t TokenFiles::num_bytes() const {
  std::int64_t sum = 0;
  for (const IndexedTokens& file : files_) sum += file.num_tokens() * size_of(file.type());
  return sum;
}

const TokenFiles::Scan& TokenFiles::scan(std::int64_t vocab_size, std::int32_t end_of_document,
                                         std::int32_t opening) const {
  if (scan_) return *scan_;
  Scan scan;
  for (std::size_t f = 0; f < files_.size(); ++f) {
    Scanner(files_[f], begin_[f], vocab_size, end_of_document, opening, scan).run();
    files_[f].check_unchanged();
  }
  scan.documents.shrink_to_fit();
  return scan_.emplace(std::move(scan));
}

std::uint32_t TokenFiles::checksum() const {
  FOURMI_CHECK(scan_.has_value(), "a checksum before the scan");
  return scan_->checksum;
}

void TokenFiles::read(std::int64_t begin, std::int64_t vocab_size, std::span<std::int32_t> out) const {
  const auto f = static_cast<std::size_t>(std::upper_bound(begin_.begin(), begin_.end(), begin) - begin_.begin() - 1);
  files_[f].read(begin - begin_[f], out);
  files_[f].check_unchanged();
  for (std::size_t i = 0; i < out.size(); ++i)
    if (out[i] >= vocab_size)
      files_[f].refuse_token(begin - begin_[f] + static_cast<std::int64_t>(i), out[i], vocab_size);
}

}  // namespace fourmi
