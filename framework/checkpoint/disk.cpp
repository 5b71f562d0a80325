#include "framework/checkpoint/disk.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

namespace fourmi {

int Disk::open(const char* path, int flags, mode_t mode) {
  return ::open(path, flags, mode);
}
int Disk::close(int file) {
  return ::close(file);
}
ssize_t Disk::pwrite(int file, const void* data, std::size_t bytes, off_t offset) {
  return ::pwrite(file, data, bytes, offset);
}
ssize_t Disk::pread(int file, void* data, std::size_t bytes, off_t offset) {
  return ::pread(file, data, bytes, offset);
}
int Disk::fsync(int file) {
  return ::fsync(file);
}
int Disk::rename(const char* from, const char* to) {
  return ::rename(from, to);
}
int Disk::mkdir(const char* path, mode_t mode) {
  return ::mkdir(path, mode);
}
int Disk::symlink(const char* target, const char* path) {
  return ::symlink(target, path);
}
int Disk::unlink(const char* path) {
  return ::unlink(path);
}
int Disk::rmdir(const char* path) {
  return ::rmdir(path);
}

Disk& real_disk() {
  static Disk disk;
  return disk;
}

namespace {

[[noreturn]] void fail(const std::filesystem::path& path, std::string_view action, int error) {
  std::string cause = fmt::format("{} failed: {}", action, std::strerror(error));
  std::string remedy;
  if (error == ENOSPC || error == EDQUOT) {
    std::error_code ignored;
    const auto space = std::filesystem::space(path.parent_path(), ignored);
    if (!ignored) cause += fmt::format(" ({:.1f} MB are free)", static_cast<double>(space.available) / 1e6);
    remedy = "Free space there, or keep fewer checkpoints (checkpoint.keep)";
  } else if (error == ENOENT) {
    remedy = "run.directory must lie on a file system that all ranks share";
  }
  throw Error(ExitStatus::environment, path.string(), cause + ", expected the file system to do it", remedy);
}

/// Opens with direct access if that is wished and can be had.
int open_file(Disk& disk, const std::filesystem::path& path, int flags, PageCache cache) {
  if (cache == PageCache::avoid) {
    const int file = disk.open(path.c_str(), flags | O_DIRECT, 0644);
    if (file >= 0 || errno != EINVAL) return file;
    if ((flags & O_CREAT) != 0) ::unlink(path.c_str());  // some file systems make the file before they refuse the flag
  }
  return disk.open(path.c_str(), flags, 0644);
}

/// Whether the file had direct access, which is what a transfer of another size was refused for: it has it no longer.
bool leave_direct_access(int file) {
  const int flags = ::fcntl(file, F_GETFL);
  return flags >= 0 && (flags & O_DIRECT) != 0 && ::fcntl(file, F_SETFL, flags & ~O_DIRECT) == 0;
}

}  // namespace

void check_file_size_limit(const std::filesystem::path& path, std::int64_t bytes) {
  rlimit limit{};
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      static_cast<std::uint64_t>(bytes) > limit.rlim_cur)
    throw Error(ExitStatus::environment, path.string(),
                fmt::format("the file size limit is {} bytes, expected at least {}", limit.rlim_cur, bytes),
                "Raise it (ulimit -f unlimited)");
}

FileWriter::FileWriter(Disk& disk, std::filesystem::path path, PageCache cache) : disk_(disk), path_(std::move(path)) {
  file_ = open_file(disk_, path_, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, cache);
  if (file_ < 0) fail(path_, "creating the file", errno);
}

FileWriter::~FileWriter() {
  if (file_ >= 0) ::close(file_);
}

void FileWriter::write(std::span<const std::byte> bytes, std::int64_t offset) {
  while (!bytes.empty()) {
    const ssize_t n = disk_.pwrite(file_, bytes.data(), bytes.size(), offset);
    if (n < 0 && (errno == EINTR || (errno == EINVAL && leave_direct_access(file_)))) continue;
    if (n < 0) fail(path_, fmt::format("writing {} bytes at {}", bytes.size(), offset), errno);
    if (n == 0) fail(path_, fmt::format("writing {} bytes at {}", bytes.size(), offset), ENOSPC);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += n;
  }
}

void FileWriter::finish() {
  if (disk_.fsync(file_) != 0) fail(path_, "fsync", errno);
  // Advice only: where it does nothing (tmpfs), reading back still proves what the kernel holds.
  ::posix_fadvise(file_, 0, 0, POSIX_FADV_DONTNEED);
  const int closed = disk_.close(std::exchange(file_, -1));
  if (closed != 0) fail(path_, "close", errno);
}

FileReader::FileReader(Disk& disk, std::filesystem::path path, PageCache cache) : disk_(disk), path_(std::move(path)) {
  // Not blocking: a pipe in a file's place must not hang. Not following: a link would lead out of the checkpoint.
  file_ = open_file(disk_, path_, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, cache);
  if (file_ < 0) {
    const int error = errno;
    if (error == ENOENT || error == ENOTDIR)
      throw DamageError(path_.string(), "the file is missing, expected it as the checkpoint lists it");
    if (error == ELOOP || error == ENXIO)
      throw DamageError(path_.string(), "found a link or a special file, expected a regular file");
    if (error == EIO) throw DamageError(path_.string(), "the file cannot be opened: Input/output error");
    fail(path_, "opening the file", error);
  }
  struct stat status {};
  const bool known = ::fstat(file_, &status) == 0;
  if (!known || !S_ISREG(status.st_mode)) {
    disk_.close(std::exchange(file_, -1));
    throw DamageError(path_.string(), "found a folder or a special file, expected a regular file");
  }
  size_ = status.st_size;
}

FileReader::~FileReader() {
  if (file_ >= 0) ::close(file_);
}

void FileReader::read(std::span<std::byte> bytes, std::int64_t offset) const {
  while (!bytes.empty()) {
    const ssize_t n = disk_.pread(file_, bytes.data(), bytes.size(), offset);
    if (n < 0 && (errno == EINTR || (errno == EINVAL && leave_direct_access(file_)))) continue;
    if (n < 0 && errno != EIO) fail(path_, "reading the file", errno);
    if (n <= 0)
      throw DamageError(path_.string(),
                        n < 0 ? fmt::format("byte {} cannot be read: {}", offset, std::strerror(errno))
                              : fmt::format("the file ends at byte {}, expected {} more", offset, bytes.size()));
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += n;
  }
}

std::string read_text(Disk& disk, const std::filesystem::path& path, std::int64_t limit) {
  const FileReader reader(disk, path);
  if (reader.size() > limit)
    throw DamageError(path.string(), fmt::format("the file has {} bytes, expected at most {}", reader.size(), limit));
  std::string text(static_cast<std::size_t>(reader.size()), '\0');
  reader.read(std::as_writable_bytes(std::span(text)), 0);
  return text;
}

void write_text(Disk& disk, const std::filesystem::path& path, std::string_view text) {
  check_file_size_limit(path, static_cast<std::int64_t>(text.size()));
  FileWriter writer(disk, path);
  writer.write(std::as_bytes(std::span(text)), 0);
  writer.finish();
  if (read_text(disk, path, static_cast<std::int64_t>(text.size())) != text)
    throw Error(ExitStatus::environment, path.string(), "other bytes came back than were written, expected the same",
                "The disk or its driver is failing");
}

void sync_directory(Disk& disk, const std::filesystem::path& path) {
  const int file = disk.open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (file < 0) fail(path, "opening the folder", errno);
  const int synced = disk.fsync(file);
  const int error = errno;
  disk.close(file);
  if (synced != 0) fail(path, "fsync of the folder", error);
}

void rename_path(Disk& disk, const std::filesystem::path& from, const std::filesystem::path& to) {
  if (disk.rename(from.c_str(), to.c_str()) != 0)
    fail(from, fmt::format("renaming to {}", to.filename().string()), errno);
}

void make_directory(Disk& disk, const std::filesystem::path& path) {
  if (disk.mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) fail(path, "creating the folder", errno);
}

void remove_link(Disk& disk, const std::filesystem::path& path) {
  if (disk.unlink(path.c_str()) != 0 && errno != ENOENT) fail(path, "removing the link", errno);
}

void remove_folder(Disk& disk, const std::filesystem::path& path) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(path, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error))
    files.push_back(it->path());
  if (error) fail(path, "listing the folder", error.value());
  for (const auto& file : files)
    if (disk.unlink(file.c_str()) != 0 && errno != ENOENT) fail(file, "removing the file", errno);
  if (disk.rmdir(path.c_str()) != 0) fail(path, "removing the folder", errno);
}

}  // namespace fourmi
