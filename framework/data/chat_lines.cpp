#include "framework/data/chat_lines.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>

#include "framework/data/text.h"
#include "kernels/runtime/error.h"

namespace fourmi {

std::uint32_t ChatLines::checksum() const {
  return static_cast<std::uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

ChatLines read_chat_lines(const std::string& path, const std::string& place) {
  ChatLines all;
  all.files = find_files(path, place);
  for (std::size_t f = 0; f < all.files.size(); ++f) {
    std::size_t begin = all.bytes.size();
    append_file(all.files[f], all.bytes);
    std::int64_t number = 0;
    for (std::size_t end = begin; begin < all.bytes.size(); begin = end + 1) {
      end = std::min(all.bytes.size(), all.bytes.find('\n', begin));
      ++number;
      const std::string_view line = std::string_view(all.bytes).substr(begin, end - begin);
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      all.lines.push_back(
          {static_cast<std::int64_t>(begin), static_cast<std::int64_t>(end), static_cast<std::int32_t>(f), number});
    }
  }
  if (all.lines.empty())
    throw Error(ExitStatus::input, place, fmt::format("{} holds no line at all, at least one was expected", path));
  all.bytes.shrink_to_fit();
  return all;
}

}  // namespace fourmi
