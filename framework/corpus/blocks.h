// An input as blocks of whole documents: of JSON lines as many as make about a block, of text the whole file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "framework/corpus/input_stream.h"

namespace fourmi {

struct TextBlock {
  std::string bytes;
  std::int64_t lines_before = 0, lines = 0;  ///< of the input
};

class BlockReader {
 public:
  /// Goes on after `decoded` bytes and `lines` lines of the input, which are read and passed over.
  BlockReader(const std::filesystem::path& path, bool json_lines, std::int64_t block_bytes, std::int64_t decoded,
              std::int64_t lines);
  /// False: the input has ended.
  bool next(TextBlock& block);
  InputStream& stream() { return stream_; }

 private:
  InputStream stream_;
  std::string rest_;
  bool json_lines_, done_ = false;
  std::int64_t block_bytes_, lines_;
};

}  // namespace fourmi
