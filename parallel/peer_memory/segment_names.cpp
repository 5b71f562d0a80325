#include "parallel/peer_memory/segment_names.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <ctime>
#include <random>

#include "kernels/runtime/error.h"

namespace fourmi {

SegmentName SegmentName::agree_on(Group& group) {
  std::array<std::uint32_t, 4> drawn{};
  if (group.rank() == 0) {
    std::random_device source;
    for (std::uint32_t& word : drawn) word = source();
  }
  group.broadcast(std::as_writable_bytes(std::span(drawn)), 0);
  return SegmentName(fmt::format("/{}{:08x}{:08x}{:08x}{:08x}", prefix, drawn[0], drawn[1], drawn[2], drawn[3]));
}

int SegmentName::create() const {
  remove_stale_segments(60);
  const int fd = ::shm_open(name_.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600);
  if (fd >= 0) ::flock(fd, LOCK_SH);  // until it is closed, at the latest with this process
  return fd;
}

int SegmentName::open() const {
  return ::shm_open(name_.c_str(), O_RDWR, 0600);
}

void SegmentName::remove() const {
  ::shm_unlink(name_.c_str());
}

void remove_stale_segments(std::int64_t seconds) {
  DIR* const entries = ::opendir(SegmentName::folder);
  if (!entries) return;
  while (const dirent* entry = ::readdir(entries)) {
    if (std::strncmp(entry->d_name, SegmentName::prefix, std::strlen(SegmentName::prefix)) != 0) continue;
    const std::string name = std::string("/") + entry->d_name;
    const int fd = ::shm_open(name.c_str(), O_RDWR, 0);
    if (fd < 0) continue;
    struct stat s {};
    const bool stale = ::fstat(fd, &s) == 0 && s.st_uid == ::getuid() && ::time(nullptr) - s.st_ctime > seconds &&
                       ::flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (stale) ::shm_unlink(name.c_str());
    ::close(fd);
  }
  ::closedir(entries);
}

}  // namespace fourmi
