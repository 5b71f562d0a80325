// A file that is read: opened without ever waiting for it, of the kind that was expected, and still the same as when it
// was opened. Every input of a run goes through here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace fourmi {

class InputFile {
 public:
  /// Opens a regular file for reading. Throws Error(input) naming it where it is absent, unreadable, a folder, a loop
  /// of links, or something that is no file (a FIFO is refused, not waited for).
  explicit InputFile(std::filesystem::path path);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;

  const std::filesystem::path& path() const { return path_; }
  std::int64_t size() const { return size_; }  ///< bytes, when it was opened
  /// Fills `out` with the bytes from `offset` on. Throws Error(input) naming file and offset if they cannot be read or
  /// the file has been cut short. Needs no memory; any number of threads may read at once.
  void read(std::int64_t offset, std::span<std::byte> out) const;
  /// Throws Error(input) if size or time of change are no longer those of the opening. A file that was replaced under
  /// its name (written aside and renamed) is not changed: the old one is still read.
  void check_unchanged() const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::int64_t size_ = 0, changed_ = 0;  ///< changed_: nanoseconds since 1970
};

}  // namespace fourmi
