#include "framework/corpus/part_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/runtime/error.h"

namespace fourmi {

void refuse_disk(const std::filesystem::path& path, const char* what) {
  throw Error(ExitStatus::environment, path.string(),
              fmt::format("{} failed ({}), a disk that can be written was expected", what, std::strerror(errno)),
              "Make room, or name another place; the same command goes on.");
}

void sync_folder_of(const std::filesystem::path& file) {
  const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) refuse_disk(folder, "opening the folder");
  const bool done = ::fsync(descriptor) == 0;
  ::close(descriptor);
  if (!done) refuse_disk(folder, "forcing the folder to the disk");
}

PartFile::PartFile(std::filesystem::path path, std::optional<std::int64_t> keep) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0) refuse_disk(path_, "opening the file");
  struct stat facts {};
  if (::fstat(descriptor_, &facts) != 0) refuse_disk(path_, "looking at the file");
  size_ = facts.st_size;
  if (keep) cut(*keep);
}

void PartFile::cut(std::int64_t bytes) {
  FOURMI_CHECK(size_ >= bytes, "{} has {} bytes of {}", path_.string(), size_, bytes);
  if (size_ > bytes && ::ftruncate(descriptor_, bytes) != 0) refuse_disk(path_, "cutting the file");
  size_ = bytes;
}

PartFile::~PartFile() {
  ::close(descriptor_);
}

void PartFile::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(descriptor_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) refuse_disk(path_, "writing");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    size_ += n;
  }
}

void PartFile::sync() {
  if (::fdatasync(descriptor_) != 0) refuse_disk(path_, "forcing the file to the disk");
}

bool PartFile::lock() {
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) return false;
  struct stat opened {
  }, named{};
  return ::fstat(descriptor_, &opened) == 0 && ::stat(path_.c_str(), &named) == 0 && opened.st_ino == named.st_ino;
}

}  // namespace fourmi
