// One input of any length, read in pieces: plain, gzip (any number of members) or zstd (any number of frames), known by
// its first bytes. Memory does not grow with the file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "framework/digest/file_digest.h"

namespace fourmi {

class InputStream {
 public:
  /// Throws Error(input) naming a file that is absent, no regular file or unreadable.
  explicit InputStream(const std::filesystem::path& path);
  ~InputStream();

  /// Appends between 1 and about a million decoded bytes to `out`; false, and nothing appended: the input has ended.
  /// Throws Error(input) naming file and offset for what cannot be decoded, and for a file that was changed meanwhile.
  bool read(std::string& out);
  std::int64_t bytes_read() const;  ///< of the file, as it lies on the disk
  /// Of the whole file as it lies on the disk; after its end only.
  FileDigest digest();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fourmi
