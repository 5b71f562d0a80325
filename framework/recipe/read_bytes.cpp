#include "framework/recipe/read_bytes.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace fourmi::recipe {

namespace {

struct Descriptor {
  int file;
  ~Descriptor() {
    if (file >= 0) ::close(file);
  }
};

constexpr int longest_wait = 5000;  // milliseconds without a byte from a pipe

}  // namespace

std::string read_bytes(const std::filesystem::path& path, std::size_t limit, std::string& text) {
  text.clear();
  const Descriptor opened{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (opened.file < 0) return std::strerror(errno);
  struct stat status {};
  if (::fstat(opened.file, &status) != 0) return std::strerror(errno);
  if (S_ISDIR(status.st_mode)) return "a folder";
  text.resize(limit);
  std::size_t size = 0;
  while (size < limit) {
    const ssize_t n = ::read(opened.file, text.data() + size, limit - size);
    if (n == 0) break;
    if (n > 0) {
      size += static_cast<std::size_t>(n);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return std::strerror(errno);
    pollfd wait{opened.file, POLLIN, 0};
    if (::poll(&wait, 1, longest_wait) == 0) return "a pipe that nobody writes to";
  }
  text.resize(size);
  return {};
}

}  // namespace fourmi::recipe
