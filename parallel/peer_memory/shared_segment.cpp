// One segment of POSIX shared memory for all ranks of a group that are processes of one host. Each rank has a piece, in
// rank order, in pages of its own. It has a name while ranks open it and none after: what processes leave behind,
// however they end, is gone with the last of them. Who leaves takes only its own mapping: a peer that still writes to
// its piece writes to pages that are there.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "parallel/peer_memory/agree.h"
#include "parallel/peer_memory/segment_names.h"
#include "parallel/peer_memory/ways.h"

namespace fourmi {
namespace {

constexpr const char* place = "parallel.dispatcher";
constexpr const char* remedy =
    "Enlarge /dev/shm (mount -o remount,size=...; for containers --shm-size), lower parallel.expert, or choose "
    "all-to-all, which gives the same bits";

[[noreturn]] void fail(const std::string& cause) {
  throw Error(ExitStatus::environment, place, cause, remedy);
}

struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

struct Mapping {
  std::byte* at = nullptr;
  std::int64_t size = 0;
  ~Mapping() {
    if (at) ::munmap(at, static_cast<std::size_t>(size));
  }
};

class SharedSegment final : public PeerMemory {
 public:
  SharedSegment(Group& group, const PeerMemoryWish& wish) : PeerMemory(group, Reach::shared_segment) {
    const std::int64_t page = ::sysconf(_SC_PAGESIZE);
    FOURMI_CHECK(page % wish.alignment == 0, "peers' memory aligned to {}", wish.alignment);
    each_ = (wish.bytes + page - 1) / page * page, size_ = group.size() * each_;
    FOURMI_CHECK(wish.bytes <= (std::int64_t{1} << 62) / group.size(), "pieces of {} bytes", wish.bytes);

    const SegmentName name =
        SegmentName::agree_on(group);  // known to all before it is there: any of them can take it away
    Descriptor file;
    agree_on(group, [&] {
      if (group.rank() == 0) create(name, file, group.size());
    });
    agree_on(group, [&] {
      if (group.rank() != 0) open(name, file, group.rank());
      take_pages(file.fd, group.rank());
      map(file.fd);
    });
    name.remove();
    for (int r = 0; r < group.size(); ++r) bases_[static_cast<std::size_t>(r)] = mapping_.at + r * each_;
  }

 private:
  void create(const SegmentName& name, Descriptor& file, int num_ranks) const {
    file.fd = name.create();
    if (file.fd < 0) fail(fmt::format("no shared memory was to be had ({}), expected some", std::strerror(errno)));
    struct statvfs room {};
    if (::fstatvfs(file.fd, &room) == 0 && room.f_blocks > 0) {  // none: it has no limit
      const auto free = static_cast<std::int64_t>(room.f_bavail * room.f_frsize);
      if (free < size_)
        fail(fmt::format("/dev/shm has {} bytes free, the windows of {} ranks need {}", free, num_ranks, size_));
    }
    if (::ftruncate(file.fd, size_) != 0)
      fail(fmt::format("{} bytes of shared memory were not to be had ({})", size_, std::strerror(errno)));
  }
  void open(const SegmentName& name, Descriptor& file, int rank) const {
    file.fd = name.open();
    if (file.fd >= 0 && ::lseek(file.fd, 0, SEEK_END) == size_) return;
    fail(
        fmt::format("rank {} does not see the shared memory of rank 0 on its host ({}), expected ranks with one "
                    "/dev/shm",
                    rank, file.fd < 0 ? std::strerror(errno) : "of another size"));
  }
  /// Now, or never: a page that is not to be had later ends the process. By the rank that reads them: near it.
  void take_pages(int fd, int rank) const {
    int error = EINTR;
    while (error == EINTR) error = ::posix_fallocate(fd, rank * each_, each_);
    if (error != 0)
      fail(fmt::format("{} bytes of shared memory for rank {} were not to be had ({})", each_, rank,
                       std::strerror(error)));
  }
  void map(int fd) {
    void* const p = ::mmap(nullptr, static_cast<std::size_t>(size_), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
      fail(fmt::format("{} bytes of shared memory were not to be mapped ({})", size_, std::strerror(errno)));
    mapping_.at = static_cast<std::byte*>(p), mapping_.size = size_;
  }

  std::int64_t each_ = 0, size_ = 0;
  Mapping mapping_;
};

}  // namespace

std::unique_ptr<PeerMemory> open_shared_segment(Group& group, const PeerMemoryWish& wish) {
  return std::make_unique<SharedSegment>(group, wish);
}

}  // namespace fourmi
