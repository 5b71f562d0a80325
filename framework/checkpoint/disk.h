// What a checkpoint asks of the file system, through one class, so that a test can make the Nth operation fail.
// A full disk, a failing disk or a lost mount shows up in exactly one of these return values; none is ever ignored.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "framework/checkpoint/agree.h"

namespace fourmi {

/// The system calls of the same names: -1 and errno when they fail. Tests derive from it.
class Disk {
 public:
  virtual ~Disk() = default;
  virtual int open(const char* path, int flags, mode_t mode);
  virtual int close(int file);
  virtual ssize_t pwrite(int file, const void* data, std::size_t bytes, off_t offset);
  virtual ssize_t pread(int file, void* data, std::size_t bytes, off_t offset);
  virtual int fsync(int file);
  virtual int rename(const char* from, const char* to);
  virtual int mkdir(const char* path, mode_t mode);
  virtual int symlink(const char* target, const char* path);
  virtual int unlink(const char* path);
  virtual int rmdir(const char* path);
};

/// The machine's own file system.
Disk& real_disk();

/// Throws Error(environment) if this process may not write files of that size: the system would kill it.
void check_file_size_limit(const std::filesystem::path& path, std::int64_t bytes);

/// Whether bytes go by way of the kernel's page cache. `avoid` is a wish: file systems without direct access (an older
/// tmpfs) and transfers that are not whole blocks in aligned memory go through it all the same.
enum class PageCache { use, avoid };
/// What direct access wants offset, size and memory to be a multiple of.
inline constexpr std::size_t direct_block = 4096;

/// A new file. Throws Error(environment) naming the path, what failed, and how much space is left when the disk is
/// full.
class FileWriter {
 public:
  /// The file must not exist yet.
  FileWriter(Disk& disk, std::filesystem::path path, PageCache cache = PageCache::use);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(std::span<const std::byte> bytes, std::int64_t offset);
  /// fsync, drop the page cache (so that reading back reads the disk), close.
  void finish();

 private:
  Disk& disk_;
  std::filesystem::path path_;
  int file_ = -1;
};

/// An existing regular file. What a damaged checkpoint can cause (absent, no regular file, too short, unreadable
/// sector) throws DamageError, everything else Error(environment).
class FileReader {
 public:
  FileReader(Disk& disk, std::filesystem::path path, PageCache cache = PageCache::use);
  ~FileReader();
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  std::int64_t size() const { return size_; }
  void read(std::span<std::byte> bytes, std::int64_t offset) const;

 private:
  Disk& disk_;
  std::filesystem::path path_;
  int file_ = -1;
  std::int64_t size_ = 0;
};

/// All of a file that holds at most `limit` bytes.
std::string read_text(Disk& disk, const std::filesystem::path& path, std::int64_t limit);
/// A new file with this content, on the disk, read back and compared.
void write_text(Disk& disk, const std::filesystem::path& path, std::string_view text);

void sync_directory(Disk& disk, const std::filesystem::path& path);
void rename_path(Disk& disk, const std::filesystem::path& from, const std::filesystem::path& to);
void make_directory(Disk& disk, const std::filesystem::path& path);
void remove_link(Disk& disk, const std::filesystem::path& path);
/// Removes a folder of plain files (a checkpoint has no folders in it).
void remove_folder(Disk& disk, const std::filesystem::path& path);

}  // namespace fourmi
