#include "framework/corpus/blocks.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

/// Compressions that are not read: without this they would be taken for text.
void refuse_other_compressions(std::string_view begin, const std::filesystem::path& file) {
  const bool xz = begin.starts_with(
                 "\xfd"
                 "7zXZ"),
             bzip2 = begin.starts_with("BZh") && file.extension() == ".bz2";
  if (xz || bzip2)
    throw Error(ExitStatus::input, file.string(),
                fmt::format("{} data, plain text, gzip or zstd was expected", xz ? "xz" : "bzip2"),
                "Decompress it, or compress it with zstd.");
}

}  // namespace

BlockReader::BlockReader(const std::filesystem::path& path, bool json_lines, std::int64_t block_bytes,
                         std::int64_t decoded, std::int64_t lines)
    : stream_(path), json_lines_(json_lines), block_bytes_(block_bytes), lines_(lines) {
  bool first = true;
  do {
    if (!stream_.read(rest_)) {
      done_ = true;
      break;
    }
    if (first) refuse_other_compressions(rest_, path);
    first = false;
    const auto skipped = std::min<std::int64_t>(decoded, std::ssize(rest_));
    rest_.erase(0, static_cast<std::size_t>(skipped));
    decoded -= skipped;
  } while (decoded > 0);
  if (decoded > 0)
    throw Error(ExitStatus::input, path.string(), "it is shorter than when it was begun, the same file was expected",
                "Remove what lies beside the output and start again.");
}

bool BlockReader::next(TextBlock& block) {
  block.lines_before = lines_;
  block.lines = 0;
  // Of a text all of it. A line longer than a block is looked through once, not at each piece anew.
  std::size_t end = std::string::npos, searched = 0;
  while (!done_) {
    if (json_lines_ && std::ssize(rest_) >= block_bytes_) {
      const std::size_t last = std::string_view(rest_).substr(searched).rfind('\n');
      if (last != std::string::npos) {
        end = searched + last + 1;
        break;
      }
      searched = rest_.size();
    }
    done_ = !stream_.read(rest_);
  }
  if (rest_.empty()) return false;
  std::string after = end == std::string::npos ? std::string() : rest_.substr(end);
  if (end != std::string::npos) rest_.resize(end);
  block.bytes = std::exchange(rest_, std::move(after));
  if (json_lines_) block.lines = std::count(block.bytes.begin(), block.bytes.end(), '\n');
  lines_ += block.lines;
  return true;
}

}  // namespace fourmi
