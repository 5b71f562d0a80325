// Text as it lies on disk: plain files, gzip (Debian's dictzip files are gzip) and zstd, found by a path, a glob or a
// folder; and JSON lines, of which one field is the text.
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
/// Error(input) if there is none, with the Debian package to install where the path tells it, and where a folder holds
/// what is neither file nor folder: nothing is left out silently.
std::vector<std::filesystem::path> find_files(const std::string& path, const std::string& place);

/// Reads and decodes all files of `path`. Throws Error(input) naming file and offset for what cannot be decoded, and
/// the source for a text that is empty.
Text read_text(const std::string& path, const std::string& place);

/// The same of JSON lines: each line's `field` is a document. Throws Error(input) naming file, line and column for a
/// line that is no JSON object, or has no such field, or one that is not text; empty lines are skipped.
Text read_json_lines(const std::string& path, const std::string& field, const std::string& place);
/// Appends the documents of one file's decoded lines to `text`. `name` is for messages, which count lines from
/// `lines_before` on.
void append_json_lines(std::string lines, const std::string& field, const std::string& name, Text& text,
                       std::int64_t lines_before = 0);

/// Appends one file's decoded bytes to `out`. Compressed is what begins with gzip's or zstd's magic bytes, whatever its
/// name.
void append_file(const std::filesystem::path& file, std::string& out);

/// Appends the decoded bytes of all members of a gzip stream. `name` is for messages, which give the offset in `data`.
void append_gzip(std::string_view data, const std::string& name, std::string& out);
/// The same of all frames of a zstd stream.
void append_zstd(std::string_view data, const std::string& name, std::string& out);

/// Bytes of `text` that are no UTF-8: how many, and where the first is.
struct Utf8Flaws {
  std::int64_t count = 0, first = 0;
};
Utf8Flaws find_utf8_flaws(std::string_view text);

}  // namespace fourmi
