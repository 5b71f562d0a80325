#include <cstring>

#include "kernels/runtime/error.h"
#include "parallel/meeting.h"
#include "parallel/peer_memory/ways.h"

namespace fourmi {
namespace {

/// Of one process: what a rank has is at one address for all, and may go when all leave.
class MemoryOfThreads final : public PeerMemory {
 public:
  MemoryOfThreads(Group& group, const PeerMemoryWish& wish, const Tensor& own)
      : PeerMemory(group, Reach::threads), meeting_(group.meet()) {
    auto* const mine = static_cast<std::byte*>(own.data);
    FOURMI_CHECK(reinterpret_cast<std::uintptr_t>(mine) % static_cast<std::uintptr_t>(wish.alignment) == 0,
                 "peers' memory at {}", static_cast<const void*>(mine));
    clear(group, mine, wish.zeroed_bytes);
    if (!meeting_) meeting_ = std::make_shared<Meeting>();  // alone
    meeting_->enter();
    try {
      // Who has all addresses knows that all are clear: they are gathered behind that.
      group.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(bases_)));
    } catch (...) {  // others may have them, and may be writing
      group.cancel_all("a rank was lost while peers' memory was made");
      meeting_->leave();
      throw;
    }
  }
  ~MemoryOfThreads() override { meeting_->leave(); }

 private:
  static void clear(const Group& group, std::byte* memory, std::int64_t bytes) {
    if (group.device() && group.device()->runtime().owns(memory))
      group.device()->runtime().fill(memory, 0, bytes);
    else
      std::memset(memory, 0, static_cast<std::size_t>(bytes));
  }
  std::shared_ptr<Meeting> meeting_;
};

}  // namespace

std::unique_ptr<PeerMemory> open_memory_of_threads(Group& group, const PeerMemoryWish& wish, const Tensor& own) {
  return std::make_unique<MemoryOfThreads>(group, wish, own);
}

}  // namespace fourmi
