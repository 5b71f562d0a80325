// Text as it lies on disk: plain files and gzip (Debian's dictzip files are gzip), found by a path, a glob or a folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace fourmi {

/// The decoded text of one source, whole in memory: its files one after the other, in the order of their paths' bytes.
struct Text {
  std::string bytes;
  std::vector<std::int64_t> file_ends;       ///< ascending; the last is bytes.size(). Empty files end where they begin.
  std::vector<std::filesystem::path> files;  ///< as many as file_ends

  /// CRC-32 of `bytes`: with the size, it tells a resumed run that its text is still the one it started with.
  std::uint32_t checksum() const;
};

/// Files that `path` names: itself; every file below it if it is a folder (names that begin with a dot are skipped);
/// what it matches if it is a glob (* ? [ ]). Sorted by bytes. `place` is the recipe's key, for the message. Throws
/// Error(input) if there is none, with the Debian package to install where the path tells it.
std::vector<std::filesystem::path> find_files(const std::string& path, const std::string& place);

/// Reads and decodes all files of `path`. Throws Error(input) naming file and offset for what cannot be decoded, and
/// the source for a text that is empty.
Text read_text(const std::string& path, const std::string& place);

/// Appends one file's decoded bytes to `out`. Compressed is what begins with gzip's two magic bytes, whatever its name.
void append_file(const std::filesystem::path& file, std::string& out);

/// Appends the decoded bytes of all members of a gzip stream. `name` is for messages, which give the offset in `data`.
void append_gzip(std::string_view data, const std::string& name, std::string& out);

}  // namespace fourmi
