// The SHA-256 of a whole file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace fourmi {

struct FileDigest {
  std::int64_t bytes = 0;
  std::string sha256;  ///< 64 lower-case hexadecimal digits
  bool operator==(const FileDigest&) const = default;
};

/// Reads all of a regular file in pieces. Throws Error(input) naming the file: absent, no regular file, unreadable.
FileDigest digest_file(const std::filesystem::path& path);

}  // namespace fourmi
