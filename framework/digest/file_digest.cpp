#include "framework/digest/file_digest.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <span>

#include "framework/digest/sha256.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

constexpr std::size_t piece = std::size_t{4} << 20;

[[noreturn]] void fail(const std::filesystem::path& path, const char* action, int error) {
  throw Error(ExitStatus::input, path.string(),
              fmt::format("{} failed: {}, expected a readable file", action, std::strerror(error)));
}

}  // namespace

FileDigest digest_file(const std::filesystem::path& path) {
  // Without blocking, so that a FIFO is found before anything waits for it.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail(path, "opening", errno);
  const std::unique_ptr<const int, void (*)(const int*)> closing(&fd, [](const int* f) { ::close(*f); });
  struct stat facts {};
  if (::fstat(fd, &facts) != 0) fail(path, "stat", errno);
  if (!S_ISREG(facts.st_mode)) throw Error(ExitStatus::input, path.string(), "found no regular file, expected one");
  FileDigest digest;
  Sha256 hash;
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(piece);
  for (;;) {
    const ssize_t n = ::read(fd, buffer.get(), piece);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path, "reading", errno);
    if (n == 0) break;
    hash.add(std::span(buffer.get(), static_cast<std::size_t>(n)));
    digest.bytes += n;
  }
  digest.sha256 = hash.finish();
  return digest;
}

}  // namespace fourmi
