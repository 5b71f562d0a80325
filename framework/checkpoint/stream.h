// A file written or read once from its first byte to its last, past the page cache: copying 1 GB into it and taking
// 270,000 pages for it costs the cores that train about as long as the disk needs, and what comes back from it proves
// nothing about the disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

#include "framework/checkpoint/disk.h"

namespace fourmi {

/// Memory that a disk can fill or read without a copy.
class StreamBuffer {
 public:
  static constexpr std::size_t size = std::size_t{4} << 20;
  StreamBuffer();
  std::byte* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte, Free> data_;
};

/// A new file. Errors as FileWriter's.
class StreamWriter {
 public:
  StreamWriter(Disk& disk, std::filesystem::path path);
  void append(std::span<const std::byte> bytes);
  /// Writes what is left; the file is on the disk when this returns.
  void finish();

 private:
  FileWriter file_;
  StreamBuffer buffer_;
  std::size_t filled_ = 0;
  std::int64_t written_ = 0;
};

/// An existing file. Errors as FileReader's.
class StreamReader {
 public:
  StreamReader(Disk& disk, std::filesystem::path path);
  /// The next bytes, at least 1 and at most `most`; valid until the next call. Throws DamageError at the end of the
  /// file.
  std::span<const std::byte> next(std::size_t most);

 private:
  FileReader file_;
  StreamBuffer buffer_;
  std::size_t begin_ = 0, end_ = 0;  // what is left in the buffer
  std::int64_t read_ = 0;
};

}  // namespace fourmi
