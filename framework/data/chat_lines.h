// JSON lines of conversations as they lie on disk: each line is a document. What is in them is read later
// (chat_documents.h), when the template is known.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace fourmi {

struct ChatLines {
  struct Line {
    std::int64_t begin = 0, end = 0;  ///< in `bytes`
    std::int32_t file = 0;
    std::int64_t number = 1;  ///< in its file
  };
  std::string bytes;
  std::vector<Line> lines;  ///< but empty ones
  std::vector<std::filesystem::path> files;

  std::string_view text(const Line& line) const {
    return std::string_view(bytes).substr(static_cast<std::size_t>(line.begin),
                                          static_cast<std::size_t>(line.end - line.begin));
  }
  std::uint32_t checksum() const;
};

/// All files of `path` (text.h). Throws Error(input) for what cannot be read, and where there is no line.
ChatLines read_chat_lines(const std::string& path, const std::string& place);

}  // namespace fourmi
