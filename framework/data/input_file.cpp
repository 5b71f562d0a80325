#include "framework/data/input_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

std::int64_t time_of_change(const struct stat& facts) {
  return std::int64_t{facts.st_mtim.tv_sec} * 1'000'000'000 + facts.st_mtim.tv_nsec;
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& found, const std::string& remedy) {
  throw Error(ExitStatus::input, path.string(), found + ", a readable file was expected", remedy);
}

}  // namespace

InputFile::InputFile(std::filesystem::path path) : path_(std::move(path)) {
  // What is no file is told before it is opened: opening a device or a FIFO may do something, or wait.
  struct stat facts {};
  if (::stat(path_.c_str(), &facts) != 0) fail(path_, std::strerror(errno), "Correct the path.");
  if (S_ISREG(facts.st_mode)) descriptor_ = ::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  const int reason = errno;
  if (S_ISREG(facts.st_mode) && descriptor_ < 0)
    fail(path_, std::strerror(reason), reason == EACCES ? "Give its reader the right to read it." : "");
  if (descriptor_ >= 0 && ::fstat(descriptor_, &facts) != 0) {
    ::close(descriptor_);
    fail(path_, std::strerror(errno), "");
  }
  if (!S_ISREG(facts.st_mode)) {
    if (descriptor_ >= 0) ::close(descriptor_);
    fail(path_, kind_of(facts.st_mode), "Name a regular file.");
  }
  size_ = facts.st_size;
  changed_ = time_of_change(facts);
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_),
      changed_(other.changed_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  std::swap(changed_, other.changed_);
  return *this;
}

void InputFile::read(std::int64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got = ::pread(descriptor_, out.data(), out.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      throw Error(ExitStatus::input, fmt::format("{}: byte {}", path_.string(), offset),
                  got == 0 ? fmt::format("the file ends here, {} bytes were expected as when it was opened", size_)
                           : fmt::format("{}, readable bytes were expected", std::strerror(errno)),
                  "Bring the file back; a run's data must not change while it runs.");
    offset += got;
    out = out.subspan(static_cast<std::size_t>(got));
  }
}

void InputFile::check_unchanged() const {
  struct stat facts {};
  const bool known = ::fstat(descriptor_, &facts) == 0;
  if (known && facts.st_size == size_ && time_of_change(facts) == changed_) return;
  throw Error(ExitStatus::input, path_.string(),
              known
                  ? fmt::format("a file of {} bytes that was changed after it was opened, the same {} bytes as before "
                                "were expected",
                                std::int64_t{facts.st_size}, size_)
                  : fmt::format("{}, the file as it was opened was expected", std::strerror(errno)),
              "Bring the file back; a run's data must not change while it runs.");
}

}  // namespace fourmi
