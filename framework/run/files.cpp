#include "framework/run/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "kernels/runtime/error.h"

namespace fourmi::files {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view aside_mark = ".aside-";

[[noreturn]] void fail(const fs::path& path, const char* action, int error) {
  throw Error(ExitStatus::environment, path.string(), fmt::format("{} failed: {}", action, std::strerror(error)),
              "Check the space and the permissions of run.directory");
}

/// A name that no other thread or process uses, beside `path`.
fs::path aside_name(const fs::path& path) {
  static std::atomic<unsigned> counter{0};
  fs::path aside = path;
  aside += fmt::format("{}{}-{}", aside_mark, ::getpid(), counter.fetch_add(1));
  return aside;
}

/// Writes all of `content`; returns 0 or errno.
int write_all(int fd, std::string_view content) {
  while (!content.empty()) {
    const ssize_t n = ::write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    content.remove_prefix(static_cast<std::size_t>(n));
  }
  return 0;
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

std::optional<std::string> read(const fs::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    fail(path, "opening", errno);
  }
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) fail(path, "reading", errno);
  if (!S_ISREG(info.st_mode)) fail(path, "reading", EINVAL);
  std::string content;
  std::size_t used = 0;
  content.resize(static_cast<std::size_t>(info.st_size) + 1);
  for (;;) {
    if (used == content.size()) content.resize(2 * content.size());
    const ssize_t n = ::read(file.get(), content.data() + used, content.size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path, "reading", errno);
    if (n == 0) break;
    used += static_cast<std::size_t>(n);
  }
  content.resize(used);
  return content;
}

void replace(const fs::path& path, std::string_view content, Durable durable) {
  const fs::path aside = aside_name(path);
  int error = 0;
  {
    const Descriptor file(::open(aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (!file) fail(path, "creating", errno);
    error = write_all(file.get(), content);
    if (error == 0 && durable == Durable::yes && ::fsync(file.get()) != 0) error = errno;
  }
  if (error == 0 && ::rename(aside.c_str(), path.c_str()) != 0) error = errno;
  if (error != 0) {
    ::unlink(aside.c_str());
    fail(path, "writing", error);
  }
  if (durable == Durable::yes) sync_folder(path.has_parent_path() ? path.parent_path() : fs::path("."));
}

void remove_leftovers(const fs::path& folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().filename().string().find(aside_mark) != std::string::npos) fs::remove(entry.path(), ignored);
  }
}

void sync_folder(const fs::path& folder) {
  const Descriptor file(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!file) fail(folder, "opening", errno);
  // Some file systems cannot sync a folder and say EINVAL: their renames are as durable as they get.
  if (::fsync(file.get()) != 0 && errno != EINVAL) fail(folder, "syncing", errno);
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || !fs::is_directory(folder, error)) {
    throw Error(ExitStatus::environment, folder.string(),
                fmt::format("the folder cannot be made ({}), expected one that can be written",
                            error ? error.message() : "it is a file"),
                "Use another run.directory");
  }
}

}  // namespace fourmi::files
